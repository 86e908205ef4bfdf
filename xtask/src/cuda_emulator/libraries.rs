//! The libraries that take the place of CUDA's, and the compiler that makes them.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command;
use super::sources::write_if_changed;

/// How everything of the emulator is compiled.
pub struct Compiler {
    /// The folder `xtask/cuda-emulator`.
    pub sources: PathBuf,
    /// Folder of all results.
    pub folder: PathBuf,
    /// The CUDA toolkit, for the headers of its libraries; none if the compiler finds them by itself.
    pub toolkit: Option<PathBuf>,
    pub asan: bool,
}

/// A library: its sources, where cudarc declares its functions, and the status of those that are missing here.
struct Library {
    file: &'static str,
    sources: &'static [&'static str],
    declarations: &'static str,
    missing: u32,
}

const LIBRARIES: [Library; 4] = [
    Library {
        file: "libcuda.so.1",
        sources: &[
            "fiber.cpp",
            "block.cpp",
            "waits.cpp",
            "deadlock.cpp",
            "order.cpp",
            "crash.cpp",
            "poison.cpp",
            "counters.cpp",
            "driver/context.cpp",
            "driver/errors.cpp",
            "driver/kernels.cpp",
            "driver/memory.cpp",
            "driver/module.cpp",
            "driver/ptx.cpp",
        ],
        declarations: "src/driver/sys/mod.rs",
        // CUDA_ERROR_STUB_LIBRARY
        missing: 34,
    },
    Library {
        file: "libcublas.so.13",
        sources: &["blas/gemm.cpp", "blas/blas.cpp"],
        declarations: "src/cublas/sys/mod.rs",
        // CUBLAS_STATUS_NOT_SUPPORTED
        missing: 15,
    },
    Library {
        file: "libcublasLt.so.13",
        sources: &["blas/gemm.cpp", "blas/lt.cpp"],
        declarations: "src/cublaslt/sys/mod.rs",
        missing: 15,
    },
    Library {
        file: "libcurand.so.10",
        sources: &["rand.cpp"],
        declarations: "src/curand/sys/mod.rs",
        // CURAND_STATUS_TYPE_ERROR
        missing: 103,
    },
];

/// Builds all libraries; the driver comes first, because the others are linked with it.
pub fn build(compiler: &Compiler, cudarc: &Path) -> Result<(), String> {
    LIBRARIES.iter().try_for_each(|library| library.build(compiler, cudarc))
}

impl Library {
    fn build(&self, compiler: &Compiler, cudarc: &Path) -> Result<(), String> {
        let made = compiler.folder.join(self.file);
        let units = compiler.folder.join("units");
        let stubs = units.join(format!("{}-stubs.cpp", self.file));
        let versions = units.join(format!("{}.map", self.file));
        let declarations = cudarc.join(self.declarations);
        let mut command = compiler.command();
        command.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra"]).args(compiler.cuda_headers());
        command.arg(format!("-Wl,-soname,{}", self.file)).arg(format!("-Wl,--version-script,{}", versions.display()));
        command.args(self.sources.iter().map(|s| compiler.sources.join(s))).arg(&stubs).arg("-o").arg(&made);
        let mut inputs = compiler.headers("");
        inputs.extend(self.sources.iter().map(|s| compiler.sources.join(s)));
        inputs.push(declarations.clone());
        if self.file != "libcuda.so.1" {
            command.arg("-L").arg(&compiler.folder).arg("-l:libcuda.so.1");
        } else {
            command.arg("-ldl");
        }
        compiler.run_if_changed(command, &made, &inputs, || {
            // The real libraries but the driver give their symbols their own name as version.
            let version = if self.file == "libcuda.so.1" { "" } else { self.file };
            write_if_changed(&versions, &format!("{version} {{ global: *; }};\n"))?;
            write_if_changed(&stubs, &self.stubs(&declarations)?)
        })
    }

    /// A weak function for every name that cudarc knows; the emulator's own take their place.
    fn stubs(&self, declarations: &Path) -> Result<String, String> {
        let text =
            fs::read_to_string(declarations).map_err(|e| format!("{} cannot be read: {e}", declarations.display()))?;
        let names: BTreeSet<&str> = text
            .split("pub unsafe fn ")
            .skip(1)
            .filter_map(|rest| rest.split('(').next())
            .filter(|name| name.starts_with("cu"))
            .collect();
        let mut unit = String::from("#include <cstdio>\n");
        for name in names {
            unit += &format!(
                "extern \"C\" __attribute__((weak)) int {name}() {{ std::fputs(\"CUDA emulator: {name} is not \
                 emulated\\n\", stderr); return {}; }}\n",
                self.missing
            );
        }
        Ok(unit)
    }
}

impl Compiler {
    /// g++ with what all parts of the emulator have in common.
    pub fn command(&self) -> Command {
        let mut command = Command::new("g++");
        command.args(["-std=c++17", "-ffp-contract=off"]);
        if self.asan {
            command.args(["-g", "-fsanitize=address"]);
        }
        command
    }

    /// Compiler flag for the folder of `cuda.h` and the headers of the other libraries.
    pub fn cuda_headers(&self) -> Option<String> {
        self.toolkit.as_ref().map(|toolkit| format!("-I{}", toolkit.join("include").display()))
    }

    /// The emulator's own headers below a folder of it.
    pub fn headers(&self, folder: &str) -> Vec<PathBuf> {
        let mut headers = Vec::new();
        let mut folders = vec![self.sources.join(folder)];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_none_or(|e| e != "cpp") {
                    headers.push(path);
                }
            }
        }
        headers.sort();
        headers
    }

    /// Runs the command if it, or one of its inputs, is not what it was when it last succeeded.
    pub fn run_if_changed(
        &self,
        mut command: Command,
        made: &Path,
        inputs: &[PathBuf],
        prepare: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        let mut hasher = DefaultHasher::new();
        format!("{command:?}").hash(&mut hasher);
        for input in inputs {
            let text = fs::read(input).map_err(|e| format!("{} cannot be read: {e}", input.display()))?;
            (input, text).hash(&mut hasher);
        }
        let fingerprint = format!("{:016x}", hasher.finish());
        let file = made.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let record = self.folder.join("fingerprints").join(&file);
        if made.exists() && fs::read_to_string(&record).is_ok_and(|old| old == fingerprint) {
            return Ok(());
        }
        prepare()?;
        note!("   Compiling {file}");
        for folder in [made, &record].into_iter().filter_map(|p| p.parent()) {
            fs::create_dir_all(folder).map_err(|e| format!("{} cannot be made: {e}", folder.display()))?;
        }
        command::output(&mut command)?;
        write_if_changed(&record, &fingerprint)
    }
}
