//! The parts of the CUDA toolkit that NVIDIA publishes as Python wheels: which ones, and getting one of them.

use super::last_line;
use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The release of CUDA that these parts belong to.
pub const CUDA: &str = "13.0";

/// Every part that building and running SelfPatch takes. 13.0 goes with NVIDIA drivers from 580 on.
pub const WHEELS: [Wheel; 8] = [
    Wheel { name: "nvidia-cuda-nvcc", version: "13.0.88", megabytes: 37 },
    Wheel { name: "nvidia-cuda-crt", version: "13.0.88", megabytes: 1 },
    Wheel { name: "nvidia-nvvm", version: "13.0.88", megabytes: 62 },
    Wheel { name: "nvidia-cuda-cccl", version: "13.0.85", megabytes: 3 },
    Wheel { name: "nvidia-cuda-runtime", version: "13.0.96", megabytes: 2 },
    Wheel { name: "nvidia-cublas", version: "13.1.1.3", megabytes: 423 },
    Wheel { name: "nvidia-cuda-nvrtc", version: "13.0.88", megabytes: 90 },
    Wheel { name: "nvidia-curand", version: "10.4.0.35", megabytes: 60 },
];

/// Folder in which the wheels keep what they bring.
pub const INSIDE: &str = "nvidia/cu13";

/// Parts of names of large libraries that neither a build nor a run needs: the second build of nvrtc, and nvvm as a
/// library (nvcc calls the program `cicc`).
const LEFT_OUT: [&str; 2] = [".alt.so", "libnvvm.so"];

/// One part of the toolkit.
pub struct Wheel {
    /// Name of the package in the Python package index.
    pub name: &'static str,
    /// Version of the package, the only one that is taken.
    pub version: &'static str,
    /// Size of the download, to be told beforehand.
    pub megabytes: u32,
}

impl Wheel {
    /// `name==version`, as pip and the marker write it.
    pub fn pin(&self) -> String {
        format!("{}=={}", self.name, self.version)
    }

    /// Downloads the wheel and unpacks it into `folder`; the download is gone afterwards.
    pub fn unpack_into(&self, folder: &Path) -> Result<(), String> {
        let downloads = folder.join("download");
        let _ = fs::remove_dir_all(&downloads);
        fs::create_dir_all(&downloads).map_err(|e| format!("{}: {e}", downloads.display()))?;
        let mut pip = python();
        pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"]);
        pip.args(["--disable-pip-version-check", "--dest"]).arg(&downloads).arg(self.pin());
        // On the same disk, which is known to have room.
        pip.env("TMPDIR", &downloads);
        if !std::io::stdout().is_terminal() {
            pip.arg("--quiet");
        }
        // What pip prints on the way, a progress bar, is shown; its error becomes part of ours.
        let output = finished(pip.stdout(Stdio::inherit()))?;
        if !output.status.success() {
            let why = last_line(&output.stderr);
            return Err(format!("pip, which needs the network, could not download {}: {why}", self.pin()));
        }
        let mut files = fs::read_dir(&downloads).into_iter().flatten().flatten().map(|file| file.path());
        let wheel = files.find(|file| file.extension().is_some_and(|extension| extension == "whl"));
        let wheel = wheel.ok_or_else(|| format!("pip downloaded nothing for {}", self.pin()))?;
        let output = finished(python().args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder))?;
        if !output.status.success() {
            return Err(format!("{} could not be unpacked: {}", wheel.display(), last_line(&output.stderr)));
        }
        for library in fs::read_dir(folder.join(INSIDE).join("lib")).into_iter().flatten().flatten() {
            if LEFT_OUT.iter().any(|part| library.file_name().to_string_lossy().contains(part)) {
                fs::remove_file(library.path()).map_err(|e| format!("{}: {e}", library.path().display()))?;
            }
        }
        fs::remove_dir_all(&downloads).map_err(|e| format!("{}: {e}", downloads.display()))
    }
}

/// Whether there is a Python with pip, and `megabytes` of disk space in `folder`.
pub fn ready(folder: &Path, megabytes: u64) -> Result<(), String> {
    if !finished(python().args(["-m", "pip", "--version"]))?.status.success() {
        return Err("python3 has no pip, which downloads the toolkit: install it, for example as python3-pip".into());
    }
    let free = "import shutil, sys; print(shutil.disk_usage(sys.argv[1]).free >> 20)";
    let output = finished(python().args(["-c", free]).arg(folder))?;
    match String::from_utf8_lossy(&output.stdout).trim().parse::<u64>() {
        Ok(free) if free < megabytes => Err(format!(
            "{}: {free} MB of disk space are free, {megabytes} MB are needed: make room or name another folder with --dir",
            folder.display()
        )),
        _ => Ok(()),
    }
}

fn python() -> Command {
    let mut python = Command::new("python3");
    python.stdout(Stdio::piped());
    python
}

/// Runs a command of Python to its end.
fn finished(python: &mut Command) -> Result<Output, String> {
    let child = python.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    child.and_then(|child| child.wait_with_output()).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no python3, whose pip downloads the toolkit: install Python 3".to_string()
        }
        _ => format!("python3 could not be started: {e}"),
    })
}
