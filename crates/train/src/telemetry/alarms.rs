//! `alarms.jsonl`: what looked wrong, one JSON object per line.

use super::LogError;
use crate::Alarm;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The list's name in the run folder.
pub const FILE_NAME: &str = "alarms.jsonl";

/// Appends alarms to a run's list.
#[derive(Debug)]
pub struct AlarmLog {
    path: PathBuf,
}

impl AlarmLog {
    /// For the run folder `run`, which goes on after `step`: later alarms belong to steps that are made again.
    /// The file is made with the first alarm.
    pub fn append(run: &Path, step: u64) -> Result<Self, LogError> {
        let path = run.join(FILE_NAME);
        let fail = |source| LogError::Io { path: path.clone(), source };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self { path }),
            Err(e) => return Err(fail(e)),
        };
        let of = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64();
        let kept: String =
            text.lines().filter(|l| of(l).is_some_and(|s| s <= step)).map(|l| format!("{l}\n")).collect();
        if kept != text {
            super::replace_file(&path, kept.as_bytes()).map_err(fail)?;
        }
        Ok(Self { path })
    }

    /// Writes one alarm.
    pub fn write(&mut self, alarm: &Alarm) -> Result<(), LogError> {
        let fail = |source| LogError::Io { path: self.path.clone(), source };
        let line = serde_json::to_string(alarm).map_err(|e| fail(e.into()))?;
        let file = OpenOptions::new().append(true).create(true).open(&self.path);
        file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())).map_err(fail)
    }
}
