//! `log.jsonl`: one JSON object per line, appended as the run goes.
//!
//! A line reaches the operating system whole, in one write. A crash can still tear the
//! last one; [`read`] passes over such a tail and [`LogWriter::append`] removes it. A
//! broken line anywhere else is damage, and is reported with its number.
//!
//! Each line is a [`Record`]: its step and its numbers by name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Record, replace_file};

/// Name of the log in the run folder.
pub const FILE_NAME: &str = "log.jsonl";

/// What can go wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file could not be read, written or replaced.
    #[error("{}: {source}", path.display())]
    Io {
        /// Path of the log.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A line that is not a record, and not merely torn off at the end.
    #[error("{}, line {line}: not a log record: {source}", path.display())]
    Line {
        /// Path of the log.
        path: PathBuf,
        /// Number of the line, counted from 1.
        line: usize,
        /// What the JSON reader said.
        source: serde_json::Error,
    },
}

pub(crate) fn io_error(path: &Path) -> impl Fn(io::Error) -> LogError + '_ {
    move |source| LogError::Io { path: path.to_owned(), source }
}

/// Appends records to a run's log. One writer per run.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    file: File,
    /// Where the last whole line ends.
    len: u64,
}

impl LogWriter {
    /// Opens the log of the run folder `run_dir`, which must exist, and creates the log
    /// where there is none. A torn last line is cut off first.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn append(run_dir: &Path) -> Result<Self, LogError> {
        let path = run_dir.join(FILE_NAME);
        let bytes = load(&path)?;
        let tail = bytes.split(|&b| b == b'\n').next_back().unwrap_or_default();
        let whole = serde_json::from_slice::<Record>(tail).is_ok();
        let open = || -> io::Result<(File, u64)> {
            let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
            if whole {
                file.write_all(b"\n")?;
            } else if !tail.is_empty() {
                cut(&path, (bytes.len() - tail.len()) as u64)?;
            }
            let len = file.metadata()?.len();
            Ok((file, len))
        };
        let (file, len) = open().map_err(io_error(&path))?;
        Ok(Self { path, file, len })
    }

    /// Writes `record` as one line. Nothing is held back in a buffer. After an error the
    /// log is as it was before the call, as far as the disk allows.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn write(&mut self, record: &Record) -> Result<(), LogError> {
        let line = serde_json::to_vec(record).map_err(io::Error::from);
        let written = line.and_then(|mut line| {
            line.push(b'\n');
            self.file.write_all(&line)?;
            Ok(line.len() as u64)
        });
        match written {
            Ok(written) => {
                self.len += written;
                Ok(())
            }
            Err(error) => {
                let _ = cut(&self.path, self.len);
                Err(io_error(&self.path)(error))
            }
        }
    }
}

/// Every record of the log in `run_dir`, in the order written; none where there is no log.
///
/// # Errors
/// [`LogError::Io`], and [`LogError::Line`] for a broken line other than a torn last one.
pub fn read(run_dir: &Path) -> Result<Vec<Record>, LogError> {
    let path = run_dir.join(FILE_NAME);
    let bytes = load(&path)?;
    Ok(parse(&path, &bytes)?.into_iter().map(|(r, _)| r).collect())
}

/// Drops the records later than `step` and a torn last line; answers how many records went.
///
/// Needed to resume from a checkpoint older than the log's end. The file is replaced in one
/// move, so call this before [`LogWriter::append`]: a writer that is already open would go
/// on writing to the replaced file.
///
/// # Errors
/// The errors of [`read`].
pub fn truncate_after(run_dir: &Path, step: u64) -> Result<usize, LogError> {
    let path = run_dir.join(FILE_NAME);
    let bytes = load(&path)?;
    let records = parse(&path, &bytes)?;
    let mut kept = Vec::with_capacity(bytes.len());
    let mut dropped = 0;
    for (record, line) in records {
        if record.step > step {
            dropped += 1;
        } else {
            // The line itself, not the record written anew: fields this version
            // does not know survive.
            kept.extend_from_slice(line);
            kept.push(b'\n');
        }
    }
    if kept != bytes {
        replace_file(&path, &kept).map_err(io_error(&path))?;
    }
    Ok(dropped)
}

fn load(path: &Path) -> Result<Vec<u8>, LogError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(io_error(path)),
    }
}

/// Each record with its line, less the line's end.
fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<(Record, &'a [u8])>, LogError> {
    let mut records = Vec::new();
    for (index, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        let text = line.trim_ascii();
        match serde_json::from_slice(text) {
            Ok(record) => records.push((record, text)),
            // An empty line, or the torn end of the file.
            Err(_) if text.is_empty() || !line.ends_with(b"\n") => {}
            Err(source) => {
                return Err(LogError::Line { path: path.to_owned(), line: index + 1, source });
            }
        }
    }
    Ok(records)
}

/// Shortens the file. A handle of its own, as some systems refuse this to an appending one.
fn cut(path: &Path, len: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scratch, record};

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn steps(dir: &Scratch) -> Result<Vec<u64>, LogError> {
        Ok(read(&dir.0)?.iter().map(|r| r.step).collect())
    }

    #[test]
    fn what_is_written_is_read() -> Outcome {
        let dir = Scratch::new("log-roundtrip")?;
        assert!(read(&dir.0)?.is_empty());
        let records = [record(1), record(2).with("teacher_entropy", 3.25)];
        for r in &records {
            LogWriter::append(&dir.0)?.write(r)?;
        }
        assert_eq!(read(&dir.0)?, records);
        let text = fs::read_to_string(dir.0.join(FILE_NAME))?;
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with(r#"{"step":1,"epoch":0.01,"train_loss":"#));
        assert!(!text.lines().next().unwrap_or("").contains("entropy"));
        Ok(())
    }

    #[test]
    fn non_finite_numbers_are_null() -> Outcome {
        let dir = Scratch::new("log-nan")?;
        let r = record(1).with("train_loss", f64::NAN).with("train_lr", f64::NEG_INFINITY);
        let r = r.with("teacher_entropy", f64::INFINITY);
        LogWriter::append(&dir.0)?.write(&r)?;
        let text = fs::read_to_string(dir.0.join(FILE_NAME))?;
        let json: serde_json::Value = serde_json::from_str(&text)?;
        assert!(json["train_loss"].is_null() && json["train_lr"].is_null());
        let back = read(&dir.0)?;
        assert!(back[0].number("train_loss").is_nan() && back[0].number("train_lr").is_nan());
        assert!(back[0].get("teacher_entropy").is_some_and(f64::is_nan));
        Ok(())
    }

    #[test]
    fn a_torn_end_is_passed_over_and_then_removed() -> Outcome {
        let dir = Scratch::new("log-torn")?;
        let path = dir.0.join(FILE_NAME);
        let mut log = LogWriter::append(&dir.0)?;
        log.write(&record(1))?;
        log.write(&record(2))?;
        drop(log);
        let whole = fs::read(&path)?;
        let first = whole.iter().take_while(|&&b| b != b'\n').count() + 1;
        for len in 0..=whole.len() {
            fs::write(&path, &whole[..len])?;
            let before = steps(&dir)?;
            // A record that lacks nothing but its line end counts.
            let expected = usize::from(len + 1 >= first) + usize::from(len + 1 >= whole.len());
            assert_eq!(before.len(), expected, "cut to {len} bytes");
            LogWriter::append(&dir.0)?.write(&record(9))?;
            assert_eq!(steps(&dir)?, [&before[..], &[9]].concat());
        }
        Ok(())
    }

    #[test]
    fn damage_in_the_middle_is_an_error() -> Outcome {
        let dir = Scratch::new("log-damage")?;
        let mut log = LogWriter::append(&dir.0)?;
        log.write(&record(1))?;
        log.file.write_all(b"{\"step\":2,\n")?;
        log.write(&record(3))?;
        let error = read(&dir.0).err().map(|e| e.to_string());
        assert!(error.is_some_and(|e| e.contains("log.jsonl, line 2: not a log record")));
        assert!(truncate_after(&dir.0, 1).is_err());
        Ok(())
    }

    #[test]
    fn later_records_are_dropped_and_unknown_fields_stay() -> Outcome {
        let dir = Scratch::new("log-truncate")?;
        assert_eq!(truncate_after(&dir.0, 0)?, 0);
        assert!(!dir.0.join(FILE_NAME).exists());
        let mut log = LogWriter::append(&dir.0)?;
        for step in 1..=5 {
            log.write(&record(step))?;
        }
        drop(log);
        let path = dir.0.join(FILE_NAME);
        let text = fs::read_to_string(&path)?.replacen('{', r#"{"note":"kept","#, 1);
        fs::write(&path, text + "{\"step\":6")?;
        assert_eq!(truncate_after(&dir.0, 3)?, 2);
        assert_eq!(steps(&dir)?, [1, 2, 3]);
        assert!(fs::read_to_string(&path)?.starts_with(r#"{"note":"kept","#));
        assert_eq!(truncate_after(&dir.0, 3)?, 0);
        assert_eq!(truncate_after(&dir.0, 0)?, 3);
        assert_eq!(fs::read(&path)?, b"");
        Ok(())
    }
}
