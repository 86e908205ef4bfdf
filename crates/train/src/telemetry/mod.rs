//! What a run leaves behind for its reader: numbers, event files and a page.
//!
//! | Module | File in the run folder | Made for |
//! | --- | --- | --- |
//! | [`log`] | `log.jsonl` | scripts, and the other two |
//! | [`faults`] | `faults.jsonl`, if there are any | a person who mends their data |
//! | [`alarms`] | `alarms.jsonl`, if there are any | the page, and `selfpatch watch` |
//! | [`tensorboard`] | `tb/events.out.tfevents.*` | TensorBoard |
//! | [`report`] | `report.html` | a person with a browser |
//!
//! What the page and `selfpatch watch` both tell is made here once: [`outline`] (the settings
//! they need), [`progress`] (time left), [`health`] (numbers with a plain word), [`ranges`] (where they lie in healthy
//! runs), [`words`].
//!
//! Nothing here touches tensors or the network. The caller hands over plain numbers.

pub mod alarms;
pub mod faults;
pub mod health;
pub mod html;
pub mod log;
pub mod outline;
pub mod progress;
pub mod ranges;
pub mod report;
pub mod tensorboard;
pub mod words;

pub use alarms::{Alarm, AlarmLog};
pub use faults::FaultLog;
pub use log::{LogError, LogWriter, Record};
pub use outline::Outline;
pub use progress::Progress;
pub use report::write_report;
pub use tensorboard::EventWriter;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Puts `bytes` in place of the file at `path`, so that a reader (or a crash)
/// meets the old content or the new, never a mixture.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = OsString::from(path);
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let outcome = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if outcome.is_err() {
        // The first error is the one to tell; a leftover is harmless.
        let _ = fs::remove_file(&temporary);
    }
    outcome
}

/// Names the file in an error that would otherwise only say "permission denied".
fn name_file(path: &Path) -> impl FnOnce(io::Error) -> io::Error + '_ {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod testing {
    use super::*;

    /// A folder of one test's own, removed when the test ends.
    pub struct Scratch(pub PathBuf);

    impl Scratch {
        pub fn new(name: &str) -> io::Result<Self> {
            let dir = std::env::temp_dir().join(format!("selfpatch-telemetry-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir)?;
            Ok(Self(dir))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A plausible record of step `step`.
    pub fn record(step: u64) -> Record {
        let t = step as f64;
        Record {
            step,
            epoch: t / 100.0,
            train_loss: 9.0 / (1.0 + t / 900.0) + 0.3 * (t * 0.7).sin(),
            train_clsloss: 5.0 / (1.0 + t / 900.0) + 0.2 * (t * 0.7).sin(),
            train_patchloss: 4.0 / (1.0 + t / 900.0) + 0.1 * (t * 0.7).sin(),
            train_lr: 5e-4 * (t / 500.0).min(1.0),
            train_wd: 0.04 + t * 7e-5,
            momentum: 0.996,
            images_per_second: 800.0 + 20.0 * (t * 0.1).cos(),
            seconds: t * 0.3,
            ..Record::default()
        }
    }

    #[test]
    fn a_replaced_file_leaves_no_temporary() -> io::Result<()> {
        let dir = Scratch::new("replace")?;
        let path = dir.0.join("file");
        replace_file(&path, b"old")?;
        replace_file(&path, b"new")?;
        assert_eq!(fs::read(&path)?, b"new");
        assert_eq!(fs::read_dir(&dir.0)?.count(), 1);
        // A folder cannot be replaced by a file: an error, and again nothing left over.
        fs::create_dir(dir.0.join("folder"))?;
        assert!(replace_file(&dir.0.join("folder"), b"x").is_err());
        assert_eq!(fs::read_dir(&dir.0)?.count(), 2);
        Ok(())
    }
}
