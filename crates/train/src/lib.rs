//! The thin trainer: a configuration becomes a plan, batches become steps, and a run folder is left
//! behind that holds everything needed to continue, repeat or use it.
//!
//! It composes the crates below it and adds no mathematics of its own: [`Trainer::step`] is one
//! step, [`run`] the loop around it.
//!
//! Refused, before anything is written: unknown fields (with the nearest valid name), impossible
//! combinations, empty or missing data, a folder that holds another run. During the run: a loss that
//! is not finite, an image that cannot be read.
//!
//! ```
//! use selfpatch_train::{Preset, Settings, Trainer};
//! use selfpatch_train::candle_core::{DType, Device};
//!
//! # fn main() -> Result<(), selfpatch_train::Error> {
//! let mut config = Preset::Default.config();
//! config.patch_loss.k_num = 2;
//! config.check()?;
//! let trainer = Trainer::new(Settings::of(&config)?, DType::F32, &Device::Cpu)?;
//! assert!(trainer.student_params.get("backbone.pos_embed").is_some());
//! # Ok(())
//! # }
//! ```

pub use candle_core;

mod alarms;
mod check;
pub mod checkpoint;
pub mod config;
mod date;
mod diagnose;
mod error;
mod estimate;
mod export;
mod health;
mod init;
mod inventory;
mod limits;
mod memory;
mod network;
mod overlay;
mod pixels;
mod place;
mod replay;
mod report;
mod run;
mod scaler;
mod step;
pub mod telemetry;
pub mod views;
pub mod work;

pub use alarms::Alarms;
pub use config::{Config, Preset};
pub use error::Error;
pub use estimate::{Estimate, Shorter};
pub use health::Health;
pub use memory::Memory;
pub use network::{Logits, Network, NetworkConfig, Target, Targets};
pub use overlay::{Difference, Setting, did_you_mean, resolve, resolve_over};
pub use pixels::{MEAN, STD, normalized};
pub use place::{place, run_name};
pub use replay::{Replay, replay};
pub use report::StepReport;
pub use run::{Asked, Cut, End, Event, History, Measure, Overridden, Resume, Saved, Session, Summary, run, source};
pub use scaler::Scaler;
pub use step::{Hyper, Loss, Means, Settings, Trainer};
