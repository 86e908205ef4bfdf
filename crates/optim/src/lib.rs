//! AdamW, SGD and LARS with the reference's parameter groups, per-tensor clipping, cosine schedules
//! and the exponential moving average of the teacher.
//!
//! Schedules are pure functions of the step; all other state can be saved and restored.
//!
//! Refused: an average between networks whose parameters differ in name or shape, moments that do
//! not match their step counts.
//!
//! ```
//! use selfpatch_nn::{Params, backward, candle_nn};
//! use selfpatch_optim::candle_core::{DType, Device};
//! use selfpatch_optim::{Algorithm, Cosine, Optimizer, Step};
//!
//! # fn main() -> selfpatch_optim::candle_core::Result<()> {
//! let (student, teacher) = (Params::trainable(0), Params::frozen(0));
//! for params in [&student, &teacher] {
//!     params.builder(DType::F32, &Device::Cpu).get_with_hints((2, 2), "fc.weight", candle_nn::init::ONE)?;
//! }
//! let weight = student.get("fc.weight").expect("just made");
//! let rate = Cosine::new(1e-3, 1e-6, 100).with_warmup(10);
//! let mut optimizer = Optimizer::new(Algorithm::AdamW);
//! for step in 0..3 {
//!     let grads = backward(&weight.sqr()?.sum_all()?)?;
//!     let step = Step { lr: rate.at(step), weight_decay: 0.04, clip: 3.0, momentum: 0.996, ..Step::default() };
//!     let norms = optimizer.step(&student, Some(&teacher), &grads, &step)?;
//!     assert!(norms.fetch()?.iter().all(|norm| norm.is_finite()), "else the step has changed nothing");
//! }
//! # Ok(())
//! # }
//! ```

pub use candle_core;

#[cfg(feature = "cuda")]
mod cuda;
mod ema;
mod groups;
mod norms;
mod optimizer;
mod schedule;
mod state;
#[cfg(test)]
mod tests;
mod update;

pub use ema::ema;
pub use groups::is_decayed;
pub use norms::{Norms, clip_factor, norm};
pub use optimizer::{Algorithm, Optimizer, Step};
pub use schedule::Cosine;
