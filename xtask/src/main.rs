//! `cargo xtask COMMAND`: builds the `selfpatch` program with the features that the arguments ask
//! for and runs it, or runs one of the repository's own chores. Links no candle.

#[macro_use]
extern crate selfpatch_output;

mod cuda;
mod cuda_emulator;
mod ended;
mod features;
#[cfg(test)]
mod pages;
mod torture;

use cuda::{Purpose, Variables};
use ended::told;
use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};

const HELP: &str = "\
Usage: cargo xtask COMMAND [ARGS]

Commands of the selfpatch program (cargo xtask COMMAND --help tells more):
  train         pre-train a ViT; without arguments on synthetic images
  watch         show a run in the terminal while it goes on; without arguments the newest
  replay        repeat a step that a run could not take
  inspect-data  look at training data: counts, bad files, mean and std, crops
  eval-davis    measure dense features on videos; without arguments the newest run
  eval-knn      classify images by their nearest neighbours among labelled ones
  eval-linear   classify images by a linear layer on frozen features
  davis-metrics score masks of any program by the J and F of DAVIS
  parity        compare with fixtures computed by the original program
  gpu-check     check a GPU in one call: parity, loss curves, speed beside PyTorch

Chores:
  build         build the selfpatch program [--features F]
  cuda-toolkit  make a CUDA toolkit to build with, without a GPU (cuda-toolkit --help tells more)
  cuda          any command of cargo with the feature's toolkit: cuda test -p selfpatch-nn --features cuda
  pack-gpu      pack the program for a GPU machine (pack-gpu --help tells more)
  bench         speed of the step and of its ops, also beside PyTorch (bench --help tells more)
  torture       kill, stop, damage and starve trainings (torture --help tells more)
  mutants       give thousands of broken files to every reader (mutants --help tells more)
  cuda-emulate  run cargo with the CUDA build on a machine without a GPU (cuda-emulate --help tells more)
  ci            what CI runs: format, clippy, tests, docs
";

fn main() -> ExitCode {
    selfpatch_output::ended(done())
}

/// Does what the arguments ask for.
fn done() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        say!("{}", HELP.trim_end());
        return ExitCode::SUCCESS;
    };
    // Paths in arguments are relative to where the user stands, cargo finds the workspace by itself.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml");
    let workspace = manifest.parent().unwrap_or(&manifest);
    let manifest = manifest.to_string_lossy();
    let cargo = |args: &[&str]| run(args, &manifest, &Vec::new());
    let with_features =
        |args: &[&str], features: &str, purpose: Purpose| match cuda::variables(features, purpose, workspace) {
            Ok(variables) => run(args, &manifest, &variables),
            Err(e) => told(Err(e)),
        };
    match command.as_str() {
        "-h" | "--help" | "help" => {
            say!("{}", HELP.trim_end());
            ExitCode::SUCCESS
        }
        "train" | "watch" | "replay" | "inspect-data" | "eval-davis" | "eval-knn" | "eval-linear" | "davis-metrics"
        | "parity" | "gpu-check" => {
            let features = features::wanted(command, rest);
            // Not `--package`: without it the whole workspace chooses the features of dependencies, so
            // that the program and the tests share one build of them.
            let mut all = vec!["run", "--release", "--bin", "selfpatch"];
            if !features.is_empty() {
                all.extend(["--features", features.as_str()]);
            }
            all.extend(["--", command]);
            all.extend(rest.iter().map(String::as_str));
            with_features(&all, &features, Purpose::Run)
        }
        "build" => {
            let mut all = vec!["build", "--release", "--bin", "selfpatch"];
            all.extend(rest.iter().map(String::as_str));
            with_features(&all, &features::named(rest), Purpose::Build)
        }
        "cuda-toolkit" => cuda::cuda_toolkit(rest, workspace),
        "cuda" => with_features(&rest.iter().map(String::as_str).collect::<Vec<_>>(), "cuda", Purpose::Build),
        "pack-gpu" => cuda::pack_gpu(rest, workspace, &|args, variables| run(args, &manifest, variables)),
        "bench" => {
            let mut all = vec!["run", "--release", "--bin", "selfpatch-bench", "--"];
            all.extend(rest.iter().map(String::as_str));
            cargo(&all)
        }
        "torture" => torture::torture(rest, &|args| {
            let status = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
                .arg(args[0])
                .args(["--manifest-path", &manifest])
                .args(&args[1..])
                .status();
            status.is_ok_and(|status| status.success())
        }),
        "cuda-emulate" => {
            cuda_emulator::cuda_emulate(rest, workspace, &|args, variables| run(args, &manifest, variables))
        }
        "mutants" => {
            let mut all = [&torture::MUTANTS[..], &["--"]].concat();
            all.extend(rest.iter().map(String::as_str));
            cargo(&all)
        }
        "ci" => {
            let chores: [&[&str]; 4] = [
                &["fmt", "--all", "--check"],
                &["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"],
                &["test", "--release", "--workspace"],
                &["doc", "--release", "--workspace", "--no-deps"],
            ];
            // SAFETY: this program has one thread.
            unsafe { env::set_var("RUSTDOCFLAGS", "-D warnings") };
            chores.iter().map(|c| cargo(c)).find(|code| *code != ExitCode::SUCCESS).unwrap_or(ExitCode::SUCCESS)
        }
        other => {
            note!("error: there is no command {other:?}\n\n{}", HELP.trim_end());
            ExitCode::from(2)
        }
    }
}

fn run(args: &[&str], manifest: &str, variables: &Variables) -> ExitCode {
    let (verb, rest) = match args.split_first() {
        Some((verb, rest)) => (*verb, rest),
        None => return told(Err("a command of cargo is missing, for example check".into())),
    };
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(cargo);
    command.arg(verb).args(["--manifest-path", manifest]).args(rest);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    // One process, as `cargo run` does: signals then reach the program, and its exit code the caller.
    #[cfg(unix)]
    if verb == "run" {
        let e = std::os::unix::process::CommandExt::exec(&mut command);
        note!("error: cargo could not be started: {e}");
        return ExitCode::FAILURE;
    }
    match command.status() {
        Ok(status) => ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1)),
        Err(e) => {
            note!("error: cargo could not be started: {e}");
            ExitCode::FAILURE
        }
    }
}
