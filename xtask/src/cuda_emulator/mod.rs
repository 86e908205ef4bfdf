//! `cargo xtask cuda-emulate`: runs the CUDA build on a machine without a GPU. The driver and cuBLAS are replaced by
//! `xtask/cuda-emulator`, the kernels are compiled for the CPU from the same sources (`docs/gpu.md`).

mod build;
mod command;
mod environment;
mod kernels;
mod libraries;
mod rewrite;
mod sources;

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

const HELP: &str = "\
Usage: cargo xtask cuda-emulate [--asan] CARGO-ARGS

Builds the CUDA emulator, then runs cargo with --release, --features cuda and what the emulator needs:
  cargo xtask cuda-emulate test -p selfpatch-nn

  --asan  find every read and write outside of device and shared memory (address sanitizer)

In place of CARGO-ARGS:
  build-emulator  only build the emulator and print its folder
  self-test       test the emulator itself
";

/// Builds the emulator and runs cargo with it.
pub fn cuda_emulate(args: &[String], workspace: &Path) -> ExitCode {
    match run(args, workspace) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String], workspace: &Path) -> Result<ExitCode, String> {
    let asan = args.first().is_some_and(|a| a == "--asan");
    let args = if asan { &args[1..] } else { args };
    let Some((verb, rest)) = args.split_first().filter(|(verb, _)| *verb != "--help" && *verb != "-h") else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let toolkit = environment::toolkit()?;
    let compiler = build::emulator(workspace, &toolkit, asan)?;
    match verb.as_str() {
        "build-emulator" => {
            println!("{}", compiler.folder.display());
            return Ok(ExitCode::SUCCESS);
        }
        "self-test" => return finish(&mut Command::new(build::self_test(&compiler)?)),
        _ => {}
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(verb).arg("--manifest-path").arg(workspace.join("Cargo.toml"));
    cargo.args(["--release", "--features", "cuda", "--target-dir"]).arg(workspace.join("target/cuda")).args(rest);
    cargo.envs(environment::build(&toolkit));
    let mut path = OsString::from(&compiler.folder);
    for more in [Some(toolkit.join("lib").into_os_string()), std::env::var_os("LD_LIBRARY_PATH")].into_iter().flatten()
    {
        path.push(":");
        path.push(more);
    }
    cargo.env("LD_LIBRARY_PATH", path);
    if asan {
        // Only programs that were built run under the sanitizer, cargo and rustc do not.
        let library = command::output(Command::new("g++").arg("-print-file-name=libasan.so"))?;
        let runner = format!("env LD_PRELOAD={} ASAN_OPTIONS=detect_leaks=0", library.trim());
        cargo.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", runner);
    }
    finish(&mut cargo)
}

/// Runs a program and takes over its exit code.
fn finish(command: &mut Command) -> Result<ExitCode, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|e| format!("{name} could not be started: {e}"))?;
    Ok(ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1)))
}
