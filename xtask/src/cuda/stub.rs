//! A library in place of the driver's `libcuda.so.1`, for machines without one: programs link against it and start,
//! and every function of it answers "this is a stub".
//!
//! candle links the driver instead of loading it when it is wanted, so that without this file nothing would link.
//! Only cudarc calls the driver, hence the functions are read from its source.

use super::files::link;
use super::last_line;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What every function returns: CUDA_ERROR_STUB_LIBRARY.
const STUB_LIBRARY: u32 = 34;

/// Makes `libcuda.so` and `libcuda.so.1` in `folder` and returns the number of their functions.
pub fn make(folder: &Path, workspace: &Path) -> Result<usize, String> {
    let mut functions = BTreeSet::new();
    for file in declarations(workspace)? {
        let source = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        functions.extend(driver_functions(&source));
    }
    if functions.is_empty() {
        return Err(
            "the source of cudarc names no function of the driver: xtask/src/cuda/stub.rs must be adapted".into()
        );
    }
    let at = |name: &str| folder.join(name);
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(failed)?;
    fs::write(at("libcuda.c"), c_source(&functions)).map_err(failed)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wl,-soname,libcuda.so.1", "-o"]).arg(at("libcuda.so"));
    let output = compiler.arg(at("libcuda.c")).output();
    let output = output.map_err(|e| format!("the C compiler cc could not be started ({e}): install gcc and g++"))?;
    if !output.status.success() {
        return Err(format!("cc could not compile {}: {}", at("libcuda.c").display(), last_line(&output.stderr)));
    }
    link("libcuda.so", &at("libcuda.so.1")).map_err(failed)?;
    fs::remove_file(at("libcuda.c")).map_err(failed)?;
    Ok(functions.len())
}

/// The version of cudarc in a `Cargo.lock`.
pub fn cudarc_version(lock: &str) -> Option<&str> {
    let (_, package) = lock.split_once("name = \"cudarc\"\nversion = \"")?;
    package.split('"').next()
}

/// The files of cudarc that declare the driver's functions, wherever cargo keeps its source.
fn declarations(workspace: &Path) -> Result<Vec<PathBuf>, String> {
    let mut cargo = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo.args(["metadata", "--format-version", "1", "--features", "selfpatch-cli/cuda", "--manifest-path"]);
    let output = cargo.arg(workspace.join("Cargo.toml")).output();
    let output = output.map_err(|e| format!("cargo could not be started: {e}"))?;
    if !output.status.success() {
        return Err(format!("cargo could not find the source of cudarc: {}", last_line(&output.stderr)));
    }
    let packages = packages_named("cudarc", &String::from_utf8_lossy(&output.stdout));
    if packages.is_empty() {
        return Err("cargo knows no package cudarc behind the feature cuda".into());
    }
    Ok(packages.iter().map(|package| package.join("src/driver/sys/mod.rs")).collect())
}

/// The folders of packages in the output of `cargo metadata`: `name-version` in a registry, `name` where vendored.
fn packages_named(name: &str, metadata: &str) -> Vec<PathBuf> {
    let manifests = metadata.split("\"manifest_path\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let folders = manifests.filter_map(|manifest| Path::new(manifest).parent());
    let named = folders.filter(|folder| {
        let rest = folder.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(name));
        rest.is_some_and(|rest| {
            let version = rest.strip_prefix('-').and_then(|v| v.chars().next());
            rest.is_empty() || version.is_some_and(|c| c.is_ascii_digit())
        })
    });
    named.map(Path::to_path_buf).collect()
}

/// The names of functions `cu…` that a Rust source declares.
fn driver_functions(source: &str) -> BTreeSet<String> {
    let names = source.split("fn cu").skip(1).filter_map(|rest| rest.split('(').next());
    let upper = |name: &&str| name.starts_with(|c: char| c.is_ascii_uppercase());
    let word = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    names.filter(upper).filter(word).map(|name| format!("cu{name}")).collect()
}

fn c_source(functions: &BTreeSet<String>) -> String {
    functions.iter().map(|name| format!("int {name}(void) {{ return {STUB_LIBRARY}; }}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
pub unsafe fn cuInit(Flags: ::core::ffi::c_uint) -> CUresult {
    extern "C" { fn cuInit(Flags: ::core::ffi::c_uint) -> CUresult; }
}
pub unsafe fn cuMemAlloc_v2(dptr: *mut CUdeviceptr, bytesize: usize) -> CUresult {
pub unsafe fn culib() -> &'static Lib {
pub type CUhostFn = Option<unsafe extern "C" fn(userData: *mut c_void)>;
"#;

    #[test]
    fn each_function_of_the_driver_gets_a_stub() {
        let functions = driver_functions(SOURCE);
        assert_eq!(functions.iter().collect::<Vec<_>>(), ["cuInit", "cuMemAlloc_v2"]);
        let source = c_source(&functions);
        assert_eq!(source, "int cuInit(void) { return 34; }\nint cuMemAlloc_v2(void) { return 34; }\n");
    }

    #[test]
    fn the_package_is_found_in_registries_and_vendored() {
        let metadata = r#"{"packages":[{"name":"cudarc","manifest_path":"/r/cudarc-0.19.10/Cargo.toml"},
            {"manifest_path":"/v/cudarc/Cargo.toml"},{"manifest_path":"/r/cudarc-macros-1.0.0/Cargo.toml"},
            {"manifest_path":"/r/candle-core-0.11.1/Cargo.toml"}]}"#;
        assert_eq!(packages_named("cudarc", metadata), [Path::new("/r/cudarc-0.19.10"), Path::new("/v/cudarc")]);
    }

    #[test]
    fn the_version_stands_in_the_lock_file() {
        let lock = "[[package]]\nname = \"cudarc\"\nversion = \"0.19.10\"\nsource = \"x\"\n";
        assert_eq!(cudarc_version(lock), Some("0.19.10"));
        assert_eq!(cudarc_version("name = \"other\"\nversion = \"1\"\n"), None);
    }
}
