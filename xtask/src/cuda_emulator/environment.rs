//! Where the CUDA toolkit is and what a build with it needs to know.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The toolkit's folder.
pub fn toolkit() -> Result<PathBuf, String> {
    env::var_os("CUDA_HOME").map(PathBuf::from).ok_or_else(|| {
        "CUDA_HOME is not set; it must name a folder with the CUDA toolkit's bin, include and lib".to_string()
    })
}

/// Variables for cargo, cudarc, cudaforge, nvcc and the linker.
pub fn build(toolkit: &Path) -> Vec<(&'static str, OsString)> {
    let text = toolkit.display();
    let mut path = toolkit.join("bin").into_os_string();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let home = toolkit.as_os_str();
    vec![
        ("CUDA_HOME", home.into()),
        ("CUDA_ROOT", home.into()),
        ("CUDA_PATH", home.into()),
        ("CUDA_TOOLKIT_ROOT_DIR", home.into()),
        ("CUDA_COMPUTE_CAP", "80".into()),
        ("NVCC", toolkit.join("bin/nvcc").into()),
        ("PATH", path),
        ("LIBRARY_PATH", format!("{text}/lib:{text}/lib/stubs").into()),
        ("RUSTFLAGS", format!("-L native={text}/lib -L native={text}/lib/stubs").into()),
    ]
}
