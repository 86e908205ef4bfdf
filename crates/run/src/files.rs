//! Small files of a run, whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Puts `bytes` in place of the file at `path`, so that a reader (or a crash)
/// meets the old content or the new, never a mixture.
///
/// # Errors
/// The error of the operating system; the old content then stands.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = OsString::from(path);
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let outcome = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if outcome.is_err() {
        // The first error is the one to tell; a leftover is harmless.
        let _ = fs::remove_file(&temporary);
    }
    outcome
}

/// Names the file in an error that would otherwise only say "permission denied".
pub fn name_file(path: &Path) -> impl FnOnce(io::Error) -> io::Error + '_ {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn a_replaced_file_leaves_no_temporary() -> io::Result<()> {
        let dir = Scratch::new("replace")?;
        let path = dir.0.join("file");
        replace_file(&path, b"old")?;
        replace_file(&path, b"new")?;
        assert_eq!(fs::read(&path)?, b"new");
        assert_eq!(fs::read_dir(&dir.0)?.count(), 1);
        // A folder cannot be replaced by a file: an error, and again nothing left over.
        fs::create_dir(dir.0.join("folder"))?;
        assert!(replace_file(&dir.0.join("folder"), b"x").is_err());
        assert_eq!(fs::read_dir(&dir.0)?.count(), 2);
        Ok(())
    }
}
