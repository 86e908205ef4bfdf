//! `alarms.jsonl`: what a run found wrong with itself, one JSON object per line.

use crate::{LogError, name_file, replace_file};
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Name of the list of alarms in the run folder.
pub const FILE_NAME: &str = "alarms.jsonl";

/// Something that the user should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// How many steps were finished.
    pub step: u64,
    /// Kind of the alarm in one word, such as `collapse`, `divergence`, `stuck` or `not-finite`.
    pub kind: String,
    /// What is wrong and what to do.
    pub text: String,
}

/// The alarms of the run folder `run`, in the order written; none where there is no list. A line
/// that is no alarm is passed over: it may be half written.
///
/// # Errors
/// When the list cannot be read; the error names the file.
pub fn read(run: &Path) -> io::Result<Vec<Alarm>> {
    let path = run.join(FILE_NAME);
    match fs::read(&path) {
        Ok(bytes) => Ok(bytes.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(name_file(&path)(error)),
    }
}

/// Appends alarms to a run's list.
#[derive(Debug)]
pub struct AlarmLog {
    path: PathBuf,
}

impl AlarmLog {
    /// Opens the list of the run folder `run`, which goes on after `step`: later alarms are dropped, as their steps are
    /// made again. The file is made with the first alarm.
    pub fn append(run: &Path, step: u64) -> Result<Self, LogError> {
        let log = Self { path: run.join(FILE_NAME) };
        let fail = |source| LogError::Io { path: log.path.clone(), source };
        let (kept, later): (Vec<_>, Vec<_>) = read(run).map_err(fail)?.into_iter().partition(|a| a.step <= step);
        if !later.is_empty() {
            let lines = kept.iter().map(line).collect::<io::Result<String>>().map_err(fail)?;
            replace_file(&log.path, lines.as_bytes()).map_err(fail)?;
        }
        Ok(log)
    }

    /// Writes one alarm.
    pub fn write(&mut self, alarm: &Alarm) -> Result<(), LogError> {
        let file = OpenOptions::new().append(true).create(true).open(&self.path);
        let written = file.and_then(|mut file| file.write_all(line(alarm)?.as_bytes()));
        written.map_err(|source| LogError::Io { path: self.path.clone(), source })
    }
}

fn line(alarm: &Alarm) -> io::Result<String> {
    Ok(serde_json::to_string(alarm)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn what_is_unreadable_is_passed_over() -> io::Result<()> {
        let dir = Scratch::new("alarms")?;
        assert!(read(&dir.0)?.is_empty());
        let line = |step| format!(r#"{{"step":{step},"kind":"collapse","text":"all alike","more":1}}"#);
        let text = format!("{}\nno\n{{}}\n\n{}\n{{\"step\":3,\"ki", line(1), line(2));
        fs::write(dir.0.join(FILE_NAME), text)?;
        let alarms = read(&dir.0)?;
        assert_eq!(alarms.iter().map(|a| a.step).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((alarms[0].kind.as_str(), alarms[0].text.as_str()), ("collapse", "all alike"));
        Ok(())
    }

    #[test]
    fn what_comes_after_the_step_of_a_resume_is_dropped() -> Result<(), LogError> {
        let dir = Scratch::new("alarms-resume").map_err(|source| LogError::Io { path: "scratch".into(), source })?;
        let alarm = |step| Alarm { step, kind: "stuck".into(), text: "nothing moves".into() };
        let mut log = AlarmLog::append(&dir.0, 0)?;
        for step in [3, 5, 9] {
            log.write(&alarm(step))?;
        }
        AlarmLog::append(&dir.0, 5)?.write(&alarm(7))?;
        let steps = read(&dir.0).map(|all| all.iter().map(|a| a.step).collect::<Vec<_>>());
        assert_eq!(steps.ok(), Some(vec![3, 5, 7]));
        Ok(())
    }
}
