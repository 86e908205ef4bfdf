//! Builds the emulator: what has changed of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use super::kernels;
use super::libraries::{self, Compiler};
use super::sources;

/// The folder with the libraries that take the place of CUDA's.
pub fn emulator(workspace: &Path, toolkit: &Path, asan: bool) -> Result<PathBuf, String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("the CUDA emulator runs on Linux with an x86-64 CPU only".to_string());
    }
    let folder = workspace.join("target/cuda-emulator").join(if asan { "asan" } else { "plain" });
    let packages = sources::packages(workspace, &["candle-kernels", "cudarc"])?;
    let [candle, cudarc] = packages.as_slice() else { return Err("cargo metadata lists no candle-kernels".into()) };
    let into = folder.join("sources");
    let trees = [sources::candle(candle, &into)?, sources::own(workspace, &into)?];
    let compiler = Compiler {
        sources: workspace.join("xtask/cuda-emulator"),
        folder: folder.clone(),
        toolkit: toolkit.to_path_buf(),
        asan,
    };
    libraries::build(&compiler, cudarc)?;

    let waiting = Mutex::new(kernels::all(&trees));
    let made = Mutex::new(Vec::new());
    let worker = || -> Result<(), String> {
        loop {
            // The lock is only poisoned by a panic, and nothing here panics while holding it.
            let next = waiting.lock().map_err(|_| "a compiler thread panicked")?.pop();
            let Some(kernel) = next else { return Ok(()) };
            let library = kernel.build(&compiler)?;
            made.lock().map_err(|_| "a compiler thread panicked")?.push(library);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|w| w.join().map_err(|_| "a compiler thread panicked".to_string())?)
    })?;
    // Libraries of sources that are gone would still be loaded.
    let made = made.into_inner().map_err(|_| "a compiler thread panicked")?;
    for path in fs::read_dir(folder.join("kernels")).into_iter().flatten().flatten().map(|e| e.path()) {
        if !made.contains(&path) {
            fs::remove_file(&path).map_err(|e| format!("{} cannot be removed: {e}", path.display()))?;
        }
    }
    Ok(folder)
}
