//! Kernels compiled for the CPU: one library for each source.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command;
use super::libraries::Compiler;
use super::sources::{Tree, write_if_changed};

/// Marks kernels in what the preprocessor gives.
const MARK: &str = "EMULATED_KERNEL";

/// A source and the tree that it may include files of.
pub struct Kernel<'a> {
    source: &'a Path,
    tree: &'a Tree,
}

/// All sources of some trees.
pub fn all(trees: &[Tree]) -> Vec<Kernel<'_>> {
    trees.iter().flat_map(|tree| tree.kernels.iter().map(move |source| Kernel { source, tree })).collect()
}

impl Kernel<'_> {
    /// Compiles the source into a library in `folder`, unless nothing has changed.
    pub fn build(&self, compiler: &Compiler, folder: &Path) -> Result<PathBuf, String> {
        let relative = self.source.strip_prefix(compiler.folder.join("sources")).map_err(|e| e.to_string())?;
        let name = relative.with_extension("").to_string_lossy().replace('/', "-");
        let library = folder.join(format!("{name}.so"));
        let unit = compiler.folder.join("units").join(format!("{name}.cpp"));
        let mut command = compiler.command();
        command
            .args(["-shared", "-fPIC", "-O2", "-fno-strict-aliasing", "-fvisibility=hidden", "-w"])
            .args(self.flags(compiler));
        command.arg(&unit).arg("-o").arg(&library);
        command.arg("-L").arg(&compiler.folder).arg("-l:libcuda.so.1");
        // Other kernels are no headers.
        let needed = |file: &&PathBuf| *file == self.source || file.extension().is_some_and(|e| e == "cuh");
        let mut inputs: Vec<_> = self.tree.files.iter().filter(needed).cloned().collect();
        inputs.extend(compiler.headers("include"));
        compiler.run_if_changed(command, &library, &inputs, || write_if_changed(&unit, &self.unit(compiler)?))?;
        Ok(library)
    }

    fn flags(&self, compiler: &Compiler) -> Vec<String> {
        let mut flags: Vec<_> = self.tree.includes.iter().map(|i| format!("-I{}", i.display())).collect();
        flags.push(format!("-I{}", compiler.sources.join("include").display()));
        flags
    }

    /// The source and, behind it, one registration for each of its kernels.
    fn unit(&self, compiler: &Compiler) -> Result<String, String> {
        let preprocessed = command::output(
            Command::new("g++")
                .args(["-E", "-P", "-x", "c++", "-std=c++17", "-w", "-include", "cuda_runtime.h"])
                .arg(format!("-D__global__={MARK}"))
                .args(self.flags(compiler))
                .arg(self.source),
        )?;
        let file = self.source.file_name().unwrap_or_default().to_string_lossy();
        let mut unit = format!("#include \"cuda_runtime.h\"\n#include \"{}\"\n", self.source.display());
        for (i, name) in names(&preprocessed).iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(unit, "static emu::Register<{name}> kernel_{i}(\"{name}\", \"{file}\");");
        }
        Ok(unit)
    }
}

/// Names of the kernels in preprocessed text, but for templates, which the driver could not find by name either.
fn names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices(MARK) {
        if text[..at].trim_end().ends_with('>') {
            continue;
        }
        let head = text[at..].split('(').next().unwrap_or_default();
        let name = head.rsplit(|c: char| !c.is_alphanumeric() && c != '_').find(|word| !word.is_empty());
        if let Some(name) = name.filter(|name| !names.iter().any(|n| n == name)) {
            names.push(name.to_string());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn kernels_are_found_by_their_mark() {
        let text = "extern \"C\" EMULATED_KERNEL void first(int a) { } template <class T> EMULATED_KERNEL void no(T t);\n\
                    extern \"C\" EMULATED_KERNEL\nvoid second (float *x);";
        assert_eq!(names(text), ["first", "second"]);
    }
}
