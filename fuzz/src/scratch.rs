//! Files for readers that want a path.

use std::path::Path;
use tempfile::TempDir;

/// A new folder, in memory where the system has such a place; it goes when it is dropped.
pub fn folder() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
}

/// What `read` makes of a file `name` that holds `bytes`; false where there is no room for it.
pub fn with_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path) -> bool) -> bool {
    let Ok(folder) = folder() else { return false };
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).is_ok() && read(&path)
}
