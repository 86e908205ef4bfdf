//! `cargo xtask cuda-emulate`: runs the CUDA build on a machine without a GPU. The driver and cuBLAS are replaced by
//! `xtask/cuda-emulator`, the kernels are compiled for the CPU from the same sources (`docs/gpu.md`).

mod build;
mod command;
mod kernels;
mod libraries;
mod rewrite;
mod sources;

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::cuda::{self, Purpose, Variables};
use libraries::Compiler;

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
pub fn cuda_emulate(args: &[String], workspace: &Path, cargo: &dyn Fn(&[&str], &Variables) -> ExitCode) -> ExitCode {
    match run(args, workspace, cargo) {
        Ok(code) => code,
        Err(message) => crate::ended::told(Err(message)),
    }
}

fn run(args: &[String], workspace: &Path, cargo: &dyn Fn(&[&str], &Variables) -> ExitCode) -> Result<ExitCode, String> {
    let asan = args.first().is_some_and(|a| a == "--asan");
    let args = if asan { &args[1..] } else { args };
    let Some((verb, rest)) = args.split_first().filter(|(verb, _)| *verb != "--help" && *verb != "-h") else {
        say!("{}", HELP.trim_end());
        return Ok(ExitCode::SUCCESS);
    };
    let mut variables = cuda::variables("cuda", Purpose::Pack, workspace)?;
    let compiler = Compiler {
        sources: workspace.join("xtask/cuda-emulator"),
        folder: crate::ended::target()?.join("cuda-emulator").join(if asan { "asan" } else { "plain" }),
        toolkit: cuda::root(&variables),
        asan,
    };
    build::emulator(&compiler, workspace)?;
    match verb.as_str() {
        "build-emulator" => {
            say!("{}", compiler.folder.display());
            return Ok(ExitCode::SUCCESS);
        }
        "self-test" => {
            let program = build::self_test(&compiler)?;
            let status = Command::new(&program).status();
            let status = status.map_err(|e| format!("{} could not be started: {e}", program.display()))?;
            return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        _ => {}
    }
    prepend(&mut variables, "LD_LIBRARY_PATH", compiler.folder.as_os_str());
    if asan {
        // Only programs that were built run under the sanitizer, cargo and rustc do not.
        let library = command::output(Command::new("g++").arg("-print-file-name=libasan.so"))?;
        let runner = format!("env LD_PRELOAD={} ASAN_OPTIONS=detect_leaks=0", library.trim());
        variables.push(("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", runner.into()));
    }
    let mut all = vec![verb.as_str(), "--release", "--features", "cuda"];
    all.extend(rest.iter().map(String::as_str));
    Ok(cargo(&all, &variables))
}

/// Puts a folder before the others of a variable.
fn prepend(variables: &mut Variables, name: &'static str, folder: &OsStr) {
    let at = variables.iter().position(|(n, _)| *n == name);
    let old = at.map(|at| variables.remove(at).1).or_else(|| env::var_os(name)).unwrap_or_default();
    let mut new = OsString::from(folder);
    if !old.is_empty() {
        new.push(":");
        new.push(old);
    }
    variables.push((name, new));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emulator_comes_first() {
        let mut variables = vec![("EMULATED", "/a:/b".into()), ("OTHER", "/c".into())];
        prepend(&mut variables, "EMULATED", OsStr::new("/emulator"));
        assert_eq!(variables, [("OTHER", "/c".into()), ("EMULATED", "/emulator:/a:/b".into())]);
        prepend(&mut variables, "XTASK_NOT_SET", OsStr::new("/emulator"));
        assert_eq!(variables[2], ("XTASK_NOT_SET", "/emulator".into()));
    }
}
