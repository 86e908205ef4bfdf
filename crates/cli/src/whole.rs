//! Files that appear whole or not at all, and what is left of them when a signal ends the program.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Puts `bytes` in place of the file at `path`: whoever reads it meets the old content or the new one.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| path.display().to_string())
}

/// Removes what this process has begun to write in `folder`, and `deep` levels of folders below, and not finished: files
/// whose name ends in `.partial-PID` or `.PID.tmp`.
pub fn sweep(folder: &Path, deep: usize) {
    let own = std::process::id();
    let endings = [format!(".partial-{own}"), format!(".{own}.tmp")];
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if endings.iter().any(|ending| name.to_string_lossy().ends_with(ending.as_str())) {
            let _ = fs::remove_file(entry.path());
        } else if deep > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sweep(&entry.path(), deep - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn only_own_unfinished_files_are_swept() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let below = folder.path().join("masks/one");
        fs::create_dir_all(&below)?;
        let own = std::process::id();
        let others = ["00000.png".into(), format!("00000.png.partial-{own}0"), format!("a.{}.tmp", own + 1)];
        for name in [format!("00001.png.partial-{own}"), format!("one.gif.{own}.tmp")].iter().chain(&others) {
            fs::write(below.join(name), "x")?;
        }
        sweep(folder.path(), 1);
        assert_eq!(fs::read_dir(&below)?.count(), 5, "no deeper than asked");
        sweep(folder.path(), 2);
        let mut left: Vec<String> =
            fs::read_dir(&below)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        left.sort();
        let mut want = others.to_vec();
        want.sort();
        assert_eq!(left, want);
        Ok(())
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_and_leaves_nothing() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a.json");
        write(&path, "one")?;
        write(&path, "two")?;
        assert_eq!(fs::read_to_string(&path)?, "two");
        fs::create_dir(folder.path().join("b.json"))?;
        fs::write(folder.path().join("b.json/c"), "")?;
        let error = write(&folder.path().join("b.json"), "three").map_err(|e| e.to_string());
        assert!(error.is_err_and(|e| e.contains("b.json")));
        assert_eq!(fs::read_dir(folder.path())?.count(), 2);
        Ok(())
    }
}
