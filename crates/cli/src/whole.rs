//! What is left of unfinished files when a signal ends the program.

use std::fs;
use std::path::Path;

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
}
