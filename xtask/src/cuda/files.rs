//! What wheels and archives lose of files: links, and that programs may be executed.

use std::io;
use std::path::Path;

/// A symbolic link `from` to `to`, which may be there already.
#[cfg(unix)]
pub fn link(to: &str, from: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(to, from) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Lets a file be executed.
#[cfg(unix)]
pub fn executable(file: &Path) -> io::Result<()> {
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755))
}

/// Fails: symbolic links are made on Unix only.
#[cfg(not(unix))]
pub fn link(_: &str, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Fails: files are made executable on Unix only.
#[cfg(not(unix))]
pub fn executable(_: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
