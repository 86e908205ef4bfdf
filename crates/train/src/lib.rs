//! The thin trainer: a configuration becomes a plan, batches become steps, and a run folder is left
//! behind that holds everything needed to continue, repeat or use it.
//!
//! The trainer composes the crates below it and adds no mathematics of its own: [`Trainer::step`] is one
//! step, [`run`] the loop around it.
//!
//! Refused, before anything is written: unknown fields (with the nearest valid name), impossible
//! combinations, empty or missing data, a folder that holds another run. During the run: a loss that
//! is non-finite, an image that cannot be read.
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
pub mod config;
pub mod continuing;
mod data;
mod date;
mod diagnose;
mod estimate;
mod export;
pub mod flags;
mod init;
pub mod layers;
mod limits;
mod memory;
mod near;
mod network;
mod objective;
mod older;
mod overlay;
mod pixels;
mod plan;
mod pretraining;
mod replay;
mod report;
mod run;
mod scaler;
mod settings;
mod shapes;
mod sheet;
mod state;
mod step;
pub mod views;
pub mod work;

pub use alarms::Alarms;
pub use config::{Config, Preset};
pub use data::source;
pub use memory::Memory;
pub use near::did_you_mean;
pub use network::{Network, NetworkConfig, PatchTarget, Rows};
pub use overlay::{Setting, resolve, resolve_over};
pub use pixels::{MEAN, STD, normalized};
pub use pretraining::{Judge, Measure};
pub use replay::{Replay, replay};
pub use report::StepReport;
pub use run::run;
pub use scaler::Scaler;
pub use selfpatch_run::Error;
pub use settings::{Hyper, Settings};
pub use sheet::SHEET;
pub use step::{Loss, Trainer, Updates};
