//! What a run leaves behind for its reader, whatever the task: numbers, event files and a page.
//!
//! | Module | File in the run folder | Made for |
//! | --- | --- | --- |
//! | [`log`] | `log.jsonl` | scripts, and the other two |
//! | [`faults`] | `faults.jsonl`, if there are any | a person who mends their data |
//! | [`alarms`] | `alarms.jsonl`, if there are any | the page, and `selfpatch watch` |
//! | [`tensorboard`] | `tb/events.out.tfevents.*` | TensorBoard |
//! | [`report`] | `report.html` | a person with a browser |
//!
//! Numbers have names ([`Numbers`]), so a task needs no type of its own for them; its [`Sheet`] says which of them are
//! drawn and where they lie in healthy runs. What the page and `selfpatch watch` both tell is made here once:
//! [`outline`] (the settings they need), [`Progress`] (time left), [`health`] (numbers with a plain word).
//!
//! Nothing here touches tensors or networks.
//!
//! ```
//! use selfpatch_run::{LogWriter, Record, log};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = std::env::temp_dir().join(format!("selfpatch-run-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! let mut writer = LogWriter::append(&folder)?;
//! writer.write(&Record::new(1).with("train_loss", 5.25).with("skipped", 0u64))?;
//! assert_eq!(log::read(&folder)?[0].get("train_loss"), Some(5.25));
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok(())
//! # }
//! ```

pub mod alarms;
mod books;
pub mod checkpoint;
mod compare;
mod course;
mod error;
mod estimate;
pub mod faults;
pub mod fields;
mod files;
mod folder;
mod follow;
pub mod health;
mod history;
mod inventory;
pub mod log;
mod numbers;
pub mod outline;
pub mod place;
pub mod progress;
mod record;
pub mod report;
mod screen;
mod session;
mod settings;
mod sheet;
mod task;
pub mod tensorboard;
#[cfg(test)]
mod testing;

pub use alarms::{Alarm, AlarmLog};
pub use checkpoint::{Found, State};
pub use course::run;
pub use error::Error;
pub use estimate::{Estimate, Shorter};
pub use faults::FaultLog;
pub use fields::Difference;
pub use files::{name_file, replace_file};
pub use follow::Follower;
pub use history::{History, Overridden, SavedRun};
pub use log::{LogError, LogWriter};
pub use numbers::{Number, Numbers};
pub use outline::Outline;
pub use progress::Progress;
pub use record::Record;
pub use report::write_report;
pub use screen::View;
pub use session::{Asked, Cut, End, Event, Resume, Session, Summary};
pub use settings::{Checkpointing, Common, HealthWatch, NonFinite, Settings};
pub use sheet::{ChartOf, CurveOf, Healthy, Measured, Section, Sheet, Unit};
pub use task::{Batches, Explained, Loaded, Seen, StepError, Task, loaded};
pub use tensorboard::EventWriter;
