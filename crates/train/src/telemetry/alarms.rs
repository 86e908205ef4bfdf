//! `alarms.jsonl`: what a run found wrong with itself, one JSON object per line.

use serde::Deserialize;
use std::fs;
use std::io;
use std::path::Path;

/// The list's name in the run folder.
pub const FILE_NAME: &str = "alarms.jsonl";

/// One thing that went wrong.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Alarm {
    /// How many steps were finished.
    pub step: u64,
    /// What kind of thing, in one word such as `collapse`.
    pub kind: String,
    /// A sentence for the user.
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
        Err(error) => Err(super::name_file(&path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Scratch;
    use super::*;

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
}
