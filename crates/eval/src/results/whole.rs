//! Files of results, whole or not at all.

use crate::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// The name under which this process writes what is to lie at `path`: it ends in `.PID.tmp`.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    PathBuf::from(name)
}

/// Puts `bytes` in place of the file at `path`: whoever reads it meets the old content or the new one.
///
/// # Errors
/// [`Error::Results`]; then the old content stands.
pub fn replace(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
    let temporary = temporary(path);
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|e| Error::results(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_named_and_leaves_nothing() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a.json");
        replace(&path, "one")?;
        replace(&path, "two")?;
        assert_eq!(fs::read_to_string(&path)?, "two");
        fs::create_dir(folder.path().join("b.json"))?;
        fs::write(folder.path().join("b.json/c"), "")?;
        let error = replace(&folder.path().join("b.json"), "three").map_err(|e| e.to_string());
        assert!(error.is_err_and(|e| e.contains("b.json")));
        assert_eq!(fs::read_dir(folder.path())?.count(), 2);
        Ok(())
    }
}
