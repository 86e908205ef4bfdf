//! `cargo xtask cuda-toolkit`: a CUDA toolkit in a folder, made of Python wheels.

use super::files::{executable, link};
use super::wheels::{CUDA, INSIDE, WHEELS, ready};
use super::{last_line, path_flag, stub};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
Usage: cargo xtask cuda-toolkit [--dir DIR]

Makes a CUDA toolkit in DIR [default: cuda-toolkit in cargo's target folder], so that the feature cuda can be built on
a machine without CUDA and without a GPU: downloads NVIDIA's Python wheels with pip (680 MB), unpacks them (1.1 GB) and
adds a stand-in for the driver. Needs python3 with pip, gcc and g++, on x86-64 Linux.
A call that was interrupted is continued by the next one. With another DIR, set CUDA_HOME to it afterwards.
";

/// The name of the toolkit in cargo's target folder.
pub const OWN: &str = "cuda-toolkit";

/// Disk space that the work takes: the toolkit and, beside it, the largest download.
const MEGABYTES: u64 = 1_700;

/// The file in a finished toolkit that says what it was made of.
const MARKER: &str = "made-of.txt";

/// Makes the toolkit, or what is missing of it.
pub fn cuda_toolkit(args: &[String], workspace: &Path) -> ExitCode {
    match path_flag(args, "--dir", HELP) {
        Ok(root) => crate::ended::told(complete(root, workspace)),
        Err(code) => code,
    }
}

fn complete(root: Option<PathBuf>, workspace: &Path) -> Result<(), String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("the wheels of the toolkit are for x86-64 Linux: install CUDA and set CUDA_HOME".into());
    }
    let root = root.map_or_else(|| crate::ended::target().map(|target| target.join(OWN)), Ok)?;
    match state(&root, &lock(workspace)?) {
        State::Finished => {}
        State::OtherStub => stand_in(&root, workspace)?,
        State::Absent | State::OtherWheels => make(&root, workspace)?,
        State::Foreign => {
            return Err(format!("{} holds something else: name another folder with --dir", root.display()));
        }
    }
    say!("{} is complete: CUDA {CUDA}", root.display());
    Ok(())
}

/// Whether `root` has a toolkit; an error if it is not what this version of the program needs.
pub fn finished(root: &Path, workspace: &Path) -> Result<bool, String> {
    match state(root, &lock(workspace)?) {
        State::Finished => Ok(true),
        State::Absent => Ok(false),
        _ => Err(format!("{} is not what this version needs: run `cargo xtask cuda-toolkit`", root.display())),
    }
}

#[derive(Debug, PartialEq)]
enum State {
    Absent,
    Finished,
    /// Only the stand-in for the driver was made for another cudarc.
    OtherStub,
    OtherWheels,
    /// A folder that this command did not make.
    Foreign,
}

fn state(root: &Path, lock: &str) -> State {
    match fs::read_to_string(root.join(MARKER)) {
        Ok(text) if text == made_of(lock) => State::Finished,
        Ok(text) if text.starts_with(&pins()) => State::OtherStub,
        Ok(_) => State::OtherWheels,
        Err(_) if fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_none()) => State::Absent,
        Err(_) if root.exists() => State::Foreign,
        Err(_) => State::Absent,
    }
}

/// What the marker of a finished toolkit says.
fn made_of(lock: &str) -> String {
    format!("{}stub of the driver for cudarc {}\n", pins(), stub::cudarc_version(lock).unwrap_or("unknown"))
}

fn pins() -> String {
    WHEELS.iter().map(|wheel| wheel.pin() + "\n").collect()
}

fn lock(workspace: &Path) -> Result<String, String> {
    let path = workspace.join("Cargo.lock");
    fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Makes everything in a folder beside `root` and renames it at the end.
fn make(root: &Path, workspace: &Path) -> Result<(), String> {
    let part = PathBuf::from(format!("{}.cuda-toolkit-part", root.display()));
    fs::create_dir_all(&part).map_err(|e| format!("{}: {e}", part.display()))?;
    let failed = |e: std::io::Error| format!("{}: {e}", part.display());
    let held = File::create(part.join("lock")).map_err(failed)?;
    if let Err(TryLockError::WouldBlock) = held.try_lock() {
        return Err(format!("another cuda-toolkit works in {}: wait for it", part.display()));
    }
    for (compiler, package) in [("cc", "gcc"), ("g++", "g++")] {
        if Command::new(compiler).arg("--version").output().is_err() {
            return Err(format!("there is no {compiler}, which nvcc and cargo call: install {package}"));
        }
    }
    let done = part.join("done.txt");
    let mut unpacked = kept(&fs::read_to_string(&done).unwrap_or_default()).to_string();
    if unpacked.is_empty() && part.join("nvidia").exists() {
        fs::remove_dir_all(part.join("nvidia")).map_err(failed)?;
    }
    let left: Vec<_> = WHEELS.iter().skip(unpacked.lines().count()).collect();
    if left.len() == WHEELS.len() {
        ready(&part, MEGABYTES)?;
    }
    let megabytes: u32 = left.iter().map(|wheel| wheel.megabytes).sum();
    say!("CUDA {CUDA} into {}: {megabytes} MB to download", root.display());
    for (number, wheel) in (1..).zip(&left) {
        say!("[{number}/{}] {} {} ({} MB)", left.len(), wheel.name, wheel.version, wheel.megabytes);
        wheel.unpack_into(&part)?;
        unpacked += &(wheel.pin() + "\n");
        fs::write(&done, &unpacked).map_err(failed)?;
    }
    let inside = part.join(INSIDE);
    restore(&inside).map_err(|e| format!("{}: {e}", inside.display()))?;
    stand_in(&inside, workspace)?;
    say!("nvcc: {}", verify(&inside)?);
    fs::remove_file(&done).map_err(failed)?;
    if root.exists() {
        fs::remove_dir_all(root).map_err(|e| format!("{}: {e}", root.display()))?;
    }
    fs::rename(&inside, root).map_err(|e| format!("{}: {e}", root.display()))?;
    fs::remove_dir_all(&part).map_err(failed)
}

/// The whole lines of a list of unpacked wheels; none if they are not those that would be unpacked now.
fn kept(done: &str) -> &str {
    let whole = &done[..done.rfind('\n').map_or(0, |end| end + 1)];
    if pins().starts_with(whole) { whole } else { "" }
}

/// What wheels cannot hold: programs that may be executed, links, and the folder's second name.
fn restore(root: &Path) -> std::io::Result<()> {
    for folder in ["bin", "nvvm/bin"] {
        for file in fs::read_dir(root.join(folder))? {
            executable(&file?.path())?;
        }
    }
    for file in fs::read_dir(root.join("lib"))? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if let Some((library, _)) = name.split_once(".so.") {
            link(&name, &root.join("lib").join(format!("{library}.so")))?;
        }
    }
    link("lib", &root.join("lib64"))
}

/// Adds the stand-in for the driver, the last part, and says so in the marker.
fn stand_in(root: &Path, workspace: &Path) -> Result<(), String> {
    let made_of = made_of(&lock(workspace)?);
    let functions = stub::make(&root.join("lib/stubs"), workspace)?;
    say!("stand-in for the driver: {functions} functions");
    fs::write(root.join(MARKER), made_of).map_err(|e| format!("{}: {e}", root.join(MARKER).display()))
}

/// Runs nvcc on an empty kernel; returns what it says of itself.
fn verify(root: &Path) -> Result<String, String> {
    let nvcc = root.join("bin/nvcc");
    let run = |args: &[&Path]| {
        let output = Command::new(&nvcc).args(args).output();
        let output = output.map_err(|e| format!("{} does not start: {e}", nvcc.display()))?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(format!("{} fails: {}", nvcc.display(), last_line(&output.stderr))),
        }
    };
    let version = run(&[Path::new("--version")])?;
    let (source, ptx) = (root.join("empty.cu"), root.join("empty.ptx"));
    let failed = |e: std::io::Error| format!("{}: {e}", root.display());
    fs::write(&source, "extern \"C\" __global__ void sp_empty() {}\n").map_err(failed)?;
    run(&[Path::new("--ptx"), Path::new("-arch=compute_80"), Path::new("-o"), &ptx, &source])?;
    let text = fs::read_to_string(&ptx).map_err(failed)?;
    fs::remove_file(source).and_then(|()| fs::remove_file(ptx)).map_err(failed)?;
    if !text.contains(".entry sp_empty") {
        return Err(format!("{} compiles an empty kernel to something that is no PTX", nvcc.display()));
    }
    let version = String::from_utf8_lossy(&version).into_owned();
    Ok(version.lines().find(|line| line.contains("release")).unwrap_or(&version).to_string())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const LOCK: &str = "name = \"cudarc\"\nversion = \"0.19.10\"\n";

    #[test]
    fn a_folder_says_what_it_is() {
        let root = std::env::temp_dir().join(format!("xtask-toolkit-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        assert_eq!(state(&root, LOCK), State::Absent);
        fs::create_dir_all(&root).unwrap();
        assert_eq!(state(&root, LOCK), State::Absent, "an empty folder may be used");
        fs::write(root.join("letter.txt"), "mine").unwrap();
        assert_eq!(state(&root, LOCK), State::Foreign);
        fs::write(root.join(MARKER), made_of(LOCK)).unwrap();
        assert_eq!(state(&root, LOCK), State::Finished);
        assert_eq!(state(&root, &LOCK.replace("0.19.10", "0.20.0")), State::OtherStub);
        fs::write(root.join(MARKER), "nvidia-cuda-nvcc==12.0.0\n").unwrap();
        assert_eq!(state(&root, LOCK), State::OtherWheels);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_was_unpacked_is_kept() {
        let first = WHEELS[0].pin() + "\n";
        assert_eq!(kept(""), "");
        assert_eq!(kept(&first), first);
        assert_eq!(kept(&format!("{first}{}", &WHEELS[1].pin()[..9])), first, "a line that was not written whole");
        assert_eq!(kept("nvidia-cuda-nvcc==12.0.0\n"), "");
    }

    #[test]
    fn programs_may_be_executed_and_libraries_have_links() {
        let root = std::env::temp_dir().join(format!("xtask-restore-{}", std::process::id()));
        for file in ["bin/nvcc", "nvvm/bin/cicc", "lib/libcudart.so.13", "lib/libcudadevrt.a"] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        for _ in 0..2 {
            restore(&root).unwrap();
            assert_eq!(fs::metadata(root.join("nvvm/bin/cicc")).unwrap().permissions().mode() & 0o111, 0o111);
            assert!(root.join("lib64/libcudart.so").exists());
            assert_eq!(fs::read_dir(root.join("lib")).unwrap().count(), 3);
        }
        fs::remove_dir_all(root).unwrap();
    }
}
