//! Builds the emulator: what has changed of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use super::kernels;
use super::libraries::{self, Compiler};
use super::sources::{self, Tree};

/// Builds the emulator: the libraries that take the place of CUDA's, in the compiler's folder, and the kernels.
pub fn emulator(compiler: &Compiler, workspace: &Path) -> Result<(), String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("the CUDA emulator runs on Linux with an x86-64 CPU only".to_string());
    }
    let [candle, cudarc] = sources::packages(workspace, ["candle-kernels", "cudarc"])?;
    libraries::build(compiler, &cudarc)?;
    let copies = compiler.folder.join("sources");
    let trees = [sources::candle(&candle, &copies)?, sources::own(workspace, &copies)?];
    let folder = compiler.folder.join("kernels");
    let made = build_all(compiler, &trees, &folder)?;
    // Libraries of sources that are gone would still be loaded.
    for path in fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path()) {
        if !made.contains(&path) {
            fs::remove_file(&path).map_err(|e| format!("{} cannot be removed: {e}", path.display()))?;
        }
    }
    Ok(())
}

/// Compiles all kernels of the trees, as many at a time as there are cores.
fn build_all(compiler: &Compiler, trees: &[Tree], folder: &Path) -> Result<Vec<PathBuf>, String> {
    let panicked = || "a thread that compiles kernels panicked".to_string();
    let waiting = Mutex::new(kernels::all(trees));
    let worker = || {
        let mut made = Vec::new();
        loop {
            let next = waiting.lock().map_err(|_| panicked())?.pop();
            let Some(kernel) = next else { return Ok(made) };
            made.push(kernel.build(compiler, folder)?);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let made: Result<Vec<_>, String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|w| w.join().map_err(|_| panicked())?).collect()
    });
    Ok(made?.concat())
}

/// Builds the emulator's own tests.
pub fn self_test(compiler: &Compiler) -> Result<PathBuf, String> {
    let tree = sources::copy(&compiler.sources.join("selftest"), &compiler.folder.join("sources/selftest"))?;
    let folder = compiler.folder.join("selftest");
    let kernels = build_all(compiler, &[tree], &folder)?;
    let program = folder.join("main");
    let main = compiler.sources.join("selftest/main.cpp");
    let mut command = compiler.command();
    command.args(["-O1", "-Wall", "-Wextra"]).args(compiler.cuda_headers()).arg(&main);
    // The kernels register themselves: nothing in the program names them.
    command
        .arg("-Wl,--no-as-needed")
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(&compiler.folder)
        .arg("-l:libcuda.so.1")
        .args(&kernels);
    for folder in [&compiler.folder, &folder] {
        command.arg(format!("-Wl,-rpath,{}", folder.display()));
    }
    let mut inputs = compiler.headers("");
    inputs.push(main);
    compiler.run_if_changed(command, &program, &inputs, || Ok(()))?;
    Ok(program)
}
