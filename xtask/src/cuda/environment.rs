//! Which CUDA toolkit a build uses, and the environment that makes cargo, build scripts and the loader find it.
//!
//! What the user has set or installed comes first and is only added to. `CUDA_HOME` and `PATH` are enough to build and
//! link: cudarc's build script hands `lib` and `lib/stubs` of `CUDA_HOME` to the linker, for the whole program. So
//! neither `LIBRARY_PATH` nor `RUSTFLAGS` is set; the latter would compile everything anew.

use super::toolkit::{self, OWN};
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Variables for a program that is started.
pub type Variables = Vec<(&'static str, OsString)>;

/// What is started.
#[derive(Clone, Copy, PartialEq)]
pub enum Purpose {
    /// A build, for this machine's GPU if there is one.
    Build,
    /// A build, then the program.
    Run,
    /// A build for other machines.
    Pack,
}

/// Variables by which people name their toolkit; cudarc looks at the same.
const NAMES: [&str; 4] = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"];

/// Compute capability whose PTX runs on every GPU since 2020; bf16 needs no less.
const COMPUTE_CAP: &str = "80";

/// Where the driver's library may be without the loader's knowing, as in containers.
const DRIVER_FOLDERS: [&str; 3] = ["/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/usr/lib/wsl/lib"];

/// The environment for cargo if the cargo features (joined by commas or spaces) name cuda; else none.
pub fn variables(features: &str, purpose: Purpose, workspace: &Path) -> Result<Variables, String> {
    if !features.split([',', ' ']).any(|feature| feature == "cuda" || feature.ends_with("/cuda")) {
        return Ok(Vec::new());
    }
    let named = named();
    let nvcc = set("NVCC").map(PathBuf::from).or_else(|| on_path("nvcc", &set("PATH").unwrap_or_default()));
    let target = crate::ended::target()?;
    let own = target.join(OWN);
    let toolkit = Toolkit::choose(named.clone(), nvcc, || Ok(toolkit::finished(&own, workspace)?.then_some(own)))?;

    let mut variables: Variables = vec![("PATH", appended(set("PATH"), std::slice::from_ref(&toolkit.bin))?)];
    if let (None, Some(root)) = (&named, &toolkit.root) {
        variables.push(("CUDA_HOME", root.into()));
    }
    if set("CUDA_COMPUTE_CAP").is_none() && (purpose == Purpose::Pack || !gpu()) {
        variables.push(("CUDA_COMPUTE_CAP", COMPUTE_CAP.into()));
    }
    // A folder of its own: builds with and without CUDA leave each other's results alone.
    variables.push(("CARGO_TARGET_DIR", target.join("cuda").into()));
    let loader = set("LD_LIBRARY_PATH");
    let folders = toolkit.libraries(driver(&loader.clone().unwrap_or_default()));
    match folders {
        Some(folders) => variables.push(("LD_LIBRARY_PATH", appended(loader, &folders)?)),
        None if purpose == Purpose::Run => {
            return Err("--device cuda: this machine has no NVIDIA driver (there is no libcuda.so.1)".into());
        }
        None => {}
    }
    Ok(variables)
}

/// The folder of the toolkit that these variables and the user's choose, if it is known.
pub fn root(variables: &Variables) -> Option<PathBuf> {
    let chosen = variables.iter().find(|(name, _)| *name == "CUDA_HOME").map(|(_, root)| PathBuf::from(root));
    chosen.or_else(|| Some(named()?.1))
}

/// Value of a variable that the user has set.
fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The toolkit that the user names, and by which variable.
fn named() -> Option<(&'static str, PathBuf)> {
    NAMES.iter().find_map(|name| Some((*name, PathBuf::from(set(name)?))))
}

/// A CUDA toolkit: a folder with `include`, `lib64` and so on if it is known, and the folder of nvcc.
#[derive(Debug, PartialEq)]
struct Toolkit {
    root: Option<PathBuf>,
    bin: PathBuf,
}

/// The driver's library.
#[derive(Clone, Debug, PartialEq)]
enum Driver {
    /// A library that the loader finds.
    Known,
    In(PathBuf),
    Absent,
}

impl Toolkit {
    /// Chooses the toolkit that a variable names, the one whose nvcc is there, or our own.
    fn choose(
        named: Option<(&str, PathBuf)>,
        nvcc: Option<PathBuf>,
        own: impl FnOnce() -> Result<Option<PathBuf>, String>,
    ) -> Result<Self, String> {
        if let Some((name, root)) = named {
            let nvcc = nvcc.unwrap_or_else(|| root.join("bin/nvcc"));
            return match nvcc.parent() {
                Some(bin) if nvcc.is_file() => Ok(Self { bin: bin.to_path_buf(), root: Some(root) }),
                _ => Err(format!("{name}={} has no bin/nvcc: correct or unset it", root.display())),
            };
        }
        if let Some(nvcc) = nvcc {
            let real = nvcc.canonicalize().map_err(|e| format!("{}: {e}", nvcc.display()))?;
            let root = real.parent().and_then(Path::parent).filter(|root| root.join("include/cuda.h").exists());
            let bin = nvcc.parent().map(Path::to_path_buf).unwrap_or_default();
            return Ok(Self { root: root.map(Path::to_path_buf), bin });
        }
        match own()? {
            Some(root) => Ok(Self { bin: root.join("bin"), root: Some(root) }),
            None => Err("the feature cuda needs a CUDA toolkit: run `cargo xtask cuda-toolkit`, which makes one \
                         without a GPU, or set CUDA_HOME to yours"
                .into()),
        }
    }

    /// Folders for the loader: the toolkit's libraries and the driver's, or last of all its stand-in. None if there
    /// is neither.
    fn libraries(&self, driver: Driver) -> Option<Vec<PathBuf>> {
        let lib = self.root.iter().map(|root| root.join("lib64")).find(|lib| lib.is_dir());
        let stubs = lib.iter().map(|lib| lib.join("stubs")).find(|stubs| stubs.join("libcuda.so.1").exists());
        let last = match driver {
            Driver::Known => None,
            Driver::In(folder) => Some(folder),
            Driver::Absent => Some(stubs?),
        };
        Some(lib.into_iter().chain(last).collect())
    }
}

/// Where the driver's library is.
fn driver(loader_path: &OsStr) -> Driver {
    let has = |folder: &Path| folder.join("libcuda.so.1").exists();
    let cached = ["ldconfig", "/sbin/ldconfig"].iter().any(|program| {
        let output = Command::new(program).arg("-p").output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("libcuda.so.1"))
    });
    let standard = ["/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"].map(PathBuf::from);
    if cached || env::split_paths(loader_path).chain(standard).any(|folder| has(&folder)) {
        return Driver::Known;
    }
    DRIVER_FOLDERS.iter().map(PathBuf::from).find(|folder| has(folder)).map_or(Driver::Absent, Driver::In)
}

/// Whether there is a GPU whose generation can be asked for, as build scripts do.
fn gpu() -> bool {
    let output = Command::new("nvidia-smi").args(["--query-gpu=compute_cap", "--format=csv,noheader"]).output();
    output.is_ok_and(|output| output.status.success() && !output.stdout.is_empty())
}

fn on_path(program: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A list of folders with more behind it.
fn appended(list: Option<OsString>, more: &[PathBuf]) -> Result<OsString, String> {
    let list: Vec<PathBuf> = list.iter().flat_map(env::split_paths).collect();
    env::join_paths(list.iter().chain(more)).map_err(|e| format!("a CUDA folder cannot stand in a search path: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder with the files of a toolkit.
    fn root(name: &str, files: &[&str]) -> PathBuf {
        let root = env::temp_dir().join(format!("xtask-environment-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for file in files {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        root.canonicalize().unwrap()
    }

    #[test]
    fn without_the_feature_nothing_is_set_or_looked_for() {
        for features in ["", "hub", "parquet,hub", "cuda-not"] {
            assert_eq!(variables(features, Purpose::Run, Path::new("/none")), Ok(Vec::new()));
        }
    }

    #[test]
    fn what_the_user_has_comes_first() {
        let user = root("user", &["bin/nvcc", "include/cuda.h"]);
        let own = root("own", &["bin/nvcc"]);
        let never = || panic!("ours is not needed");
        let (home, nvcc) = (Some(("CUDA_HOME", user.clone())), Some(user.join("bin/nvcc")));
        let expected = Ok(Toolkit { root: Some(user.clone()), bin: user.join("bin") });
        assert_eq!(Toolkit::choose(home.clone(), None, never), expected);
        assert_eq!(Toolkit::choose(None, nvcc.clone(), never), expected);
        let split = Toolkit::choose(Some(("CUDA_PATH", own.clone())), nvcc, never).unwrap();
        assert_eq!(split, Toolkit { root: Some(own.clone()), bin: user.join("bin") });

        let ours = Toolkit::choose(None, None, || Ok(Some(own.clone()))).unwrap();
        assert_eq!(ours, Toolkit { root: Some(own.clone()), bin: own.join("bin") });
        let none = Toolkit::choose(None, None, || Ok(None)).unwrap_err();
        assert!(none.contains("cargo xtask cuda-toolkit"), "{none}");
        let wrong = Toolkit::choose(Some(("CUDA_HOME", "/nowhere".into())), None, never).unwrap_err();
        assert_eq!(wrong, "CUDA_HOME=/nowhere has no bin/nvcc: correct or unset it");
        fs::remove_dir_all(user).unwrap();
        fs::remove_dir_all(own).unwrap();
    }

    #[test]
    fn the_stand_in_for_the_driver_is_last_and_only_where_there_is_none() {
        let root = root("libraries", &["lib64/stubs/libcuda.so.1"]);
        let lib = root.join("lib64");
        let toolkit = Toolkit { root: Some(root.clone()), bin: root.join("bin") };
        assert_eq!(toolkit.libraries(Driver::Known), Some(vec![lib.clone()]));
        assert_eq!(toolkit.libraries(Driver::In("/d".into())), Some(vec![lib.clone(), "/d".into()]));
        assert_eq!(toolkit.libraries(Driver::Absent), Some(vec![lib.clone(), lib.join("stubs")]));
        let elsewhere = Toolkit { root: None, bin: "/usr/bin".into() };
        assert_eq!(elsewhere.libraries(Driver::Known), Some(Vec::new()));
        assert_eq!(elsewhere.libraries(Driver::Absent), None);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn lists_of_folders_grow_at_the_end() {
        assert_eq!(appended(None, &["/a".into()]), Ok("/a".into()));
        assert_eq!(appended(Some("/x:/y".into()), &["/a".into(), "/b".into()]), Ok("/x:/y:/a:/b".into()));
        assert!(appended(None, &["/a:b".into()]).is_err());
    }
}
