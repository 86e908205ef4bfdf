//! A log that grows while it is read.

use crate::log::{FILE_NAME, LogError, io_error};
use crate::record::Record;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Reads what was added to a log since the last look. A run that goes back to a checkpoint, or begins anew,
/// replaces its log: then everything is read again.
pub struct Follower {
    path: PathBuf,
    /// Where the next unread line begins.
    offset: u64,
    records: Vec<Record>,
    /// Whole lines that are no records.
    unreadable: usize,
    modified: Option<SystemTime>,
}

impl Follower {
    /// A reader of the log in the run folder `run`; nothing is read yet.
    pub fn of(run: &Path) -> Self {
        Self { path: run.join(FILE_NAME), offset: 0, records: vec![], unreadable: 0, modified: None }
    }

    /// All records until now, in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// How many lines are damaged.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// When the log was written last; `None` where there is none.
    pub fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// Reads what was added to the log. A log that is not there is an empty one.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn update(&mut self) -> Result<(), LogError> {
        let outcome = File::open(&self.path).and_then(|mut file| self.read_on(&mut file));
        match outcome {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.forget();
                self.modified = None;
                Ok(())
            }
            other => other.map_err(io_error(&self.path)),
        }
    }

    fn forget(&mut self) {
        (self.offset, self.unreadable) = (0, 0);
        self.records.clear();
    }

    fn read_on(&mut self, file: &mut File) -> io::Result<()> {
        let about = file.metadata()?;
        self.modified = about.modified().ok();
        let mut lines = added(file, self.offset)?;
        if about.len() < self.offset || !self.goes_on_with(&lines) {
            self.forget();
            lines = added(file, 0)?;
        }
        self.offset += lines.len() as u64;
        for line in lines.split(|&b| b == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            match serde_json::from_slice(line) {
                Ok(record) => self.records.push(record),
                Err(_) => self.unreadable += 1,
            }
        }
        Ok(())
    }

    /// Whether `lines` can follow what was read: the first is a record of a later step.
    fn goes_on_with(&self, lines: &[u8]) -> bool {
        let Some(first) = lines.split(|&b| b == b'\n').next().filter(|line| !line.is_empty()) else { return true };
        let last = self.records.last().map_or(0, |r| r.step);
        serde_json::from_slice::<Record>(first).is_ok_and(|r| r.step > last)
    }
}

/// The whole lines from `offset` on; a torn last one is left for later.
fn added(file: &mut File, offset: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    bytes.truncate(bytes.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1));
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn line(step: u64) -> String {
        serde_json::to_string(&Record::new(step)).unwrap() + "\n"
    }

    #[test]
    fn growth_is_followed_and_a_new_log_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let mut log = Follower::of(folder.path());
        let mut steps = |text: Option<String>| {
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
            }
            log.update().unwrap();
            (log.records().iter().map(|r| r.step).collect::<Vec<_>>(), log.unreadable())
        };
        assert_eq!(steps(None), (vec![], 0));
        let torn = line(1) + &line(2) + &line(3)[..7];
        assert_eq!(steps(Some(torn)), (vec![1, 2], 0));
        let whole: String = (1..=4).map(line).collect();
        assert_eq!(steps(Some(whole.clone())), (vec![1, 2, 3, 4], 0));
        assert_eq!(steps(None), (vec![1, 2, 3, 4], 0));
        // Damage is counted once.
        let damaged = whole + "{}\n" + &line(5);
        assert_eq!(steps(Some(damaged.clone())), (vec![1, 2, 3, 4, 5], 1));
        assert_eq!(steps(Some(damaged + &line(6))), (vec![1, 2, 3, 4, 5, 6], 1));
        // Back to step 2: shorter, or longer already.
        assert_eq!(steps(Some(line(1) + &line(2))), (vec![1, 2], 0));
        let longer: String = (1..=9).map(|s| line(s * 10)).collect();
        assert_eq!(steps(Some(longer.clone())), ((1..=9).map(|s| s * 10).collect(), 0));
        assert_eq!(steps(Some(longer.replace("90", "95") + &line(96))).0.len(), 10);
        fs::remove_file(&path).unwrap();
        assert_eq!(steps(None), (vec![], 0));
    }
}
