//! Which CUDA sources there are, and copies of them that a C++ compiler accepts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{command, rewrite};

/// Kernels of candle that are emulated: those of plain tensors.
const CANDLE: [&str; 10] =
    ["affine", "binary", "cast", "conv", "fill", "indexing", "reduce", "sort", "ternary", "unary"];

/// A tree of rewritten sources.
pub struct Tree {
    /// Files with kernels, below the build folder.
    pub kernels: Vec<PathBuf>,
    /// All files of the tree: what a kernel may include.
    pub files: Vec<PathBuf>,
    /// Folders that includes are looked for in, beside that of the file.
    pub includes: Vec<PathBuf>,
}

/// The folders of packages that the workspace depends on with its feature `cuda`.
pub fn packages<const N: usize>(workspace: &Path, names: [&str; N]) -> Result<[PathBuf; N], String> {
    let metadata = command::output(
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["metadata", "--format-version", "1", "--features", "cuda"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu", "--manifest-path"])
            .arg(workspace.join("crates/nn/Cargo.toml")),
    )?;
    let manifests: Vec<PathBuf> = metadata
        .split("\"manifest_path\":\"")
        .skip(1)
        .filter_map(|rest| Some(PathBuf::from(rest.split('"').next()?)))
        .collect();
    let folder = |name: &&str| {
        let versioned = |folder: &Path| {
            let file = folder.file_name().and_then(|f| f.to_str());
            file.and_then(|f| f.strip_prefix(*name)?.strip_prefix('-')).is_some_and(|v| v.starts_with(char::is_numeric))
        };
        let found = manifests.iter().filter_map(|m| m.parent()).find(|folder| versioned(folder));
        found.map(Path::to_path_buf).ok_or_else(|| format!("cargo metadata does not list the package {name}"))
    };
    let folders: Vec<PathBuf> = names.iter().map(folder).collect::<Result<_, String>>()?;
    folders.try_into().map_err(|_| "cargo metadata lists other packages than asked for".to_string())
}

/// Rewritten sources of candle's kernels.
pub fn candle(package: &Path, into: &Path) -> Result<Tree, String> {
    let mut tree = copy(&package.join("src"), &into.join("candle-kernels"))?;
    tree.kernels.retain(|file| {
        let top = file.parent().is_some_and(|p| p.ends_with("candle-kernels"));
        top && file.file_stem().and_then(|s| s.to_str()).is_some_and(|s| CANDLE.contains(&s))
    });
    Ok(tree)
}

/// Rewritten sources of the workspace's own kernels.
pub fn own(workspace: &Path, into: &Path) -> Result<Tree, String> {
    let mut tree = copy(&workspace.join("crates"), &into.join("crates"))?;
    tree.includes.push(into.join("crates/nn/src/cuda"));
    Ok(tree)
}

/// Rewrites all CUDA sources below a folder.
pub fn copy(from: &Path, to: &Path) -> Result<Tree, String> {
    let mut tree = Tree { kernels: Vec::new(), files: Vec::new(), includes: vec![to.to_path_buf()] };
    for file in walk(from)? {
        let copied = to.join(file.strip_prefix(from).map_err(|e| e.to_string())?);
        let text = fs::read_to_string(&file).map_err(|e| format!("{} cannot be read: {e}", file.display()))?;
        write_if_changed(&copied, &rewrite::rewrite(&text))?;
        if copied.extension().is_some_and(|e| e == "cu") {
            tree.kernels.push(copied.clone());
        }
        tree.files.push(copied);
    }
    Ok(tree)
}

/// All CUDA sources below a folder, in order.
fn walk(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|e| format!("{} cannot be read: {e}", folder.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "cu" || e == "cuh") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Writes a file unless it has this content already.
pub fn write_if_changed(path: &Path, text: &str) -> Result<(), String> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let folder = path.parent().ok_or("a file without a folder")?;
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .map_err(|e| format!("{} cannot be written: {e}", path.display()))
}
