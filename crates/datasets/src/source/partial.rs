//! What is being made in the cache: under a name of its own until it is whole, gone if it never comes to that.

use crate::Error;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// What such names have in them: `TARGET.partial-PROCESS-NUMBER`.
const MARK: &str = ".partial-";

/// A place for what becomes `TARGET`. What is there when this is dropped is removed.
pub(super) struct Partial {
    path: PathBuf,
    lock: PathBuf,
    /// Held as long as the process lives, where the file system has locks.
    _held: File,
}

impl Partial {
    /// A name beside `target`, at which nothing is yet. The folder is made.
    pub fn of(target: &Path) -> Result<Self, Error> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let folder = target.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = with_suffix(target, &format!("{MARK}{}-{number}", process::id()));
        let lock = with_suffix(&path, ".lock");
        let held = File::create(&lock).map_err(|e| Error::io(&lock, e))?;
        // Without locks the number of the process tells whether somebody is still at it.
        let _ = held.try_lock();
        Ok(Self { path, lock, _held: held })
    }

    /// The place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves what is there to `target`, unless another process was faster.
    pub fn keep_as(self, target: &Path) -> Result<(), Error> {
        match fs::rename(&self.path, target) {
            Err(_) if target.exists() => Ok(()),
            renamed => renamed.map_err(|e| Error::io(target, e)),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        remove(&self.path);
        remove(&self.lock);
    }
}

/// Removes what processes that are gone have left in a folder. What cannot be removed is in nobody's way but the
/// disk's.
pub(super) fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((_, owner)) = name.rsplit_once(MARK) else { continue };
        let (path, lock) = match owner.ends_with(".lock") {
            true => (entry.path().with_extension(""), entry.path()),
            false => (entry.path(), with_suffix(&entry.path(), ".lock")),
        };
        let is_free = match File::options().append(true).open(&lock) {
            Ok(file) => match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(_)) => !is_alive(owner),
            },
            Err(_) => !is_alive(owner), // of an older version of this program, or gone in the meantime
        };
        if is_free {
            remove(&path);
            remove(&lock);
        }
    }
}

/// Whether the process in a name lives.
fn is_alive(owner: &str) -> bool {
    let number: String = owner.chars().take_while(char::is_ascii_digit).collect();
    // Nobody knows: better to keep it.
    !number.is_empty() && (!Path::new("/proc/self").exists() || Path::new("/proc").join(number).exists())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove(path: &Path) {
    let _ = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_works_on_is_removed() {
        let folder = std::env::temp_dir().join(format!("selfpatch-sweep-{}", process::id()));
        let own = Partial::of(&folder.join("own")).unwrap();
        fs::create_dir(own.path()).unwrap();
        let place = |name: String| folder.join(name);
        // Of a process that lives and of one that does not, by number and by lock.
        let living = place(format!("a{MARK}{}", process::id()));
        let dead = [place(format!("b{MARK}{}", u32::MAX)), place(format!("c{MARK}{}-0", process::id()))];
        for path in dead.iter().chain([&living]) {
            fs::create_dir(path).unwrap();
            fs::write(path.join("000001.jpg"), "").unwrap();
        }
        File::create(with_suffix(&dead[1], ".lock")).unwrap();
        fs::create_dir(place("whole".into())).unwrap();
        sweep(&folder);
        assert!(own.path().is_dir() && own.lock.exists() && living.is_dir() && place("whole".into()).is_dir());
        assert!(dead.iter().all(|path| !path.exists()) && !with_suffix(&dead[1], ".lock").exists());
        own.keep_as(&folder.join("own")).unwrap();
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [living.file_name().unwrap(), "own".as_ref(), "whole".as_ref()]);
        fs::remove_dir_all(folder).unwrap();
    }
}
