//! `cargo xtask pack-gpu`: the program and what it needs on a GPU machine, in one file that is quick to carry.

use super::environment::{Purpose, Variables, variables};
use super::files::executable;
use super::{last_line, path_flag};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
Usage: cargo xtask pack-gpu [--out FILE]

Builds the program with the feature cuda, strips it and packs it with its run script into FILE [default:
selfpatch-gpu.tar.gz in cargo's target folder]. On a GPU machine with the NVIDIA driver and CUDA 13 or PyTorch for
CUDA 13, and nothing else: tar -xzf selfpatch-gpu.tar.gz && selfpatch-gpu/run.sh
";

/// What goes beside the program. Fixtures and Python peers are inside of the program.
const FILES: [(&str, &str); 1] = [("run.sh", include_str!("run.sh"))];

/// The most that is carried to GPU machines.
const LARGEST: u64 = 60_000_000;

/// Builds and packs; `cargo` runs cargo.
pub fn pack_gpu(args: &[String], workspace: &Path, cargo: &dyn Fn(&[&str], &Variables) -> ExitCode) -> ExitCode {
    let out = match path_flag(args, "--out", HELP) {
        Ok(out) => out,
        Err(code) => return code,
    };
    let variables = match variables("cuda", Purpose::Pack, workspace) {
        Ok(variables) => variables,
        Err(e) => return crate::ended::told(Err(e)),
    };
    let code = cargo(&["build", "--release", "--bin", "selfpatch", "--features", "cuda"], &variables);
    if code == ExitCode::SUCCESS { crate::ended::told(pack(out)) } else { code }
}

fn pack(out: Option<PathBuf>) -> Result<(), String> {
    let target = crate::ended::target()?;
    let out = out.unwrap_or_else(|| target.join("selfpatch-gpu.tar.gz"));
    let built = target.join("cuda/release/selfpatch");
    let folder = target.join("cuda/selfpatch-gpu");
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(failed)?;
    let program = folder.join("selfpatch");
    tool(Command::new("strip").arg("-o").arg(&program).arg(&built))?;
    for (name, text) in FILES {
        fs::write(folder.join(name), text).and_then(|()| executable(&folder.join(name))).map_err(failed)?;
    }
    // A half-written archive never has the name that was asked for.
    let part = PathBuf::from(format!("{}.part", out.display()));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--gzip", "--owner=0", "--group=0", "--file"]).arg(&part);
    tool(tar.arg("--directory").arg(target.join("cuda")).arg("selfpatch-gpu"))?;
    let packed = size(&part)?;
    let line = format!("{} MB built, {} MB stripped, {} MB packed", mb(size(&built)?), mb(size(&program)?), mb(packed));
    if packed > LARGEST {
        let _ = fs::remove_file(&part);
        return Err(format!("the pack may have {} MB at most: {line}", mb(LARGEST)));
    }
    fs::rename(&part, &out).map_err(|e| format!("{}: {e}", out.display()))?;
    say!("{}: {line}", out.display());
    Ok(())
}

fn tool(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name} could not be started ({e}): install it"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{name} fails: {}", last_line(&output.stderr))),
    }
}

fn size(file: &Path) -> Result<u64, String> {
    fs::metadata(file).map(|m| m.len()).map_err(|e| format!("{}: {e}", file.display()))
}

fn mb(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Output;

    /// A folder with a program that says its arguments and needs a library that is in no folder of the loader.
    fn packed(root: &Path) {
        let _ = fs::remove_dir_all(root);
        fs::create_dir_all(root.join("pack")).unwrap();
        fs::create_dir_all(root.join("cuda/lib64")).unwrap();
        fs::write(root.join("pack/run.sh"), FILES[0].1).unwrap();
        fs::write(root.join("library.c"), "int sp_answer(void) { return 7; }").unwrap();
        let program = "#include <stdio.h>\nint sp_answer(void);\n\
            int main(int n, char **a) { for (int i = 1; i < n; i++) puts(a[i]); return sp_answer(); }";
        fs::write(root.join("program.c"), program).unwrap();
        let library = "cuda/lib64/libcudart.so.13";
        for args in [
            &["-shared", "-fPIC", "-Wl,-soname,libcudart.so.13", "-o", library, "library.c"][..],
            &["-o", "pack/selfpatch", "program.c", library],
        ] {
            assert!(Command::new("cc").args(args).current_dir(root).status().unwrap().success());
        }
    }

    fn start(root: &Path, home: &Path, args: &[&str]) -> Output {
        let mut sh = Command::new("sh");
        sh.arg(root.join("pack/run.sh")).args(args).env("CUDA_HOME", home).env_remove("LD_LIBRARY_PATH");
        sh.current_dir(std::env::temp_dir()).output().unwrap()
    }

    #[test]
    fn the_script_finds_libraries_or_names_what_is_missing() {
        let root = std::env::temp_dir().join(format!("xtask pack {}", std::process::id()));
        packed(&root);
        let found = start(&root, &root.join("cuda"), &[]);
        assert_eq!((found.status.code(), &*found.stdout), (Some(7), &b"gpu-check\n"[..]));
        let found = start(&root, &root.join("cuda"), &["train", "--name", "a b"]);
        assert_eq!((found.status.code(), &*found.stdout), (Some(7), &b"train\n--name\na b\n"[..]));

        // It may be that this machine has the library; the name of another one is on none.
        let renamed = ["pack/selfpatch", "-Wl,-soname,libcudart.so.913"];
        fs::remove_file(root.join("cuda/lib64/libcudart.so.13")).unwrap();
        let cc = |args: &[&str]| assert!(Command::new("cc").args(args).current_dir(&root).status().unwrap().success());
        cc(&["-shared", "-fPIC", renamed[1], "-o", "gone.so", "library.c"]);
        cc(&["-o", renamed[0], "program.c", "gone.so"]);
        let lost = start(&root, &root.join("cuda"), &[]);
        let text = String::from_utf8(lost.stderr).unwrap();
        assert_eq!((lost.status.code(), &*lost.stdout), (Some(1), &b""[..]));
        assert!(text.starts_with("error: this machine lacks libcudart.so.913 (of CUDA 13, "), "{text}");
        assert!(text.contains(&format!(", {}/cuda/lib64,", root.display())) && text.lines().count() == 1, "{text}");
        fs::remove_dir_all(root).unwrap();
    }
}
