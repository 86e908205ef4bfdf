//! `faults.jsonl`: what is wrong with which sample, one JSON object per line and sample.

use crate::LogError;
use selfpatch_datasets::Fault;
use serde_json::json;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Name of the list of faults in the run folder.
pub const FILE_NAME: &str = "faults.jsonl";

/// Appends faults to a run's list, each sample once, also over several sessions.
#[derive(Debug)]
pub struct FaultLog {
    path: PathBuf,
    file: Option<File>,
    known: HashSet<String>,
}

impl FaultLog {
    /// Reads the faults that are known in the run folder `run`. The file is made with the first fault.
    pub fn append(run: &Path) -> Result<Self, LogError> {
        let path = run.join(FILE_NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(LogError::Io { path, source }),
        };
        // A torn last line is written again when its sample is met again.
        let values = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let known = values.filter_map(|v| Some(v["name"].as_str()?.to_string())).collect();
        Ok(Self { path, file: None, known })
    }

    /// Writes `fault`, met in the batch after `step` steps, unless it is known.
    pub fn write(&mut self, step: usize, fault: &Fault) -> Result<(), LogError> {
        if !self.known.insert(fault.name.clone()) {
            return Ok(());
        }
        let line = json!({ "step": step, "name": fault.name, "reason": fault.reason, "bad": fault.bad });
        let fail = |source| LogError::Io { path: self.path.clone(), source };
        if self.file.is_none() {
            let file = OpenOptions::new().append(true).create(true).open(&self.path).map_err(fail)?;
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(format!("{line}\n").as_bytes()).map_err(fail),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sample_is_named_once_over_all_sessions() {
        let folder = tempfile::tempdir().unwrap();
        let fault = |name: &str| Fault { name: name.into(), reason: "is \"cut\"".into(), bad: true, first: true };
        for _ in 0..2 {
            let mut log = FaultLog::append(folder.path()).unwrap();
            log.write(3, &fault("a.jpg")).unwrap();
            log.write(4, &fault("b.jpg")).unwrap();
            log.write(5, &fault("a.jpg")).unwrap();
        }
        let text = fs::read_to_string(folder.path().join(FILE_NAME)).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["name"], &lines[1]["step"]), (&"a.jpg".into(), &4.into()));
    }

    #[test]
    fn without_faults_there_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        drop(FaultLog::append(folder.path()).unwrap());
        assert!(!folder.path().join(FILE_NAME).exists());
    }
}
