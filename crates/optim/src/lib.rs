//! AdamW, SGD and LARS, rules for decay, clipping and rates, cosine schedules and the exponential moving
//! average of a teacher.
//!
//! Schedules are pure functions of the step; all other state can be saved and restored.
//!
//! Refused: an average of parameters that the trained network has not, or in another shape, moments that do
//! not match their step counts.
//!
//! ```
//! use selfpatch_nn::{Params, backward, candle_nn};
//! use selfpatch_optim::candle_core::{DType, Device};
//! use selfpatch_optim::{Algorithm, Clip, Cosine, Follower, Optimizer, Rules, Step};
//!
//! # fn main() -> selfpatch_optim::candle_core::Result<()> {
//! let (student, teacher) = (Params::trainable(0), Params::frozen(0));
//! for params in [&student, &teacher] {
//!     params.builder(DType::F32, &Device::Cpu).get_with_hints((2, 2), "fc.weight", candle_nn::init::ONE)?;
//! }
//! let weight = student.get("fc.weight").expect("just made");
//! let rate = Cosine::new(1e-3, 1e-6, 100).with_warmup(10);
//! let mut optimizer = Optimizer::new(Algorithm::AdamW);
//! let rules = Rules { clip: Clip::Each(3.0), ..Rules::default() };
//! for step in 0..3 {
//!     let grads = backward(&weight.sqr()?.sum_all()?)?;
//!     let step = Step { lr: rate.at(step), weight_decay: 0.04, ..Step::default() };
//!     let follower = Follower { params: &teacher, momentum: 0.996 };
//!     let norms = optimizer.step(&student, Some(&follower), &grads, &rules, &step)?;
//!     assert!(norms.fetch()?.iter().all(|norm| norm.is_finite()), "else the step has changed nothing");
//! }
//! # Ok(())
//! # }
//! ```

pub use candle_core;

#[cfg(feature = "cuda")]
mod cuda;
mod ema;
mod norms;
mod optimizer;
mod rules;
mod schedule;
mod state;
mod step;
#[cfg(test)]
mod tests;
mod update;

pub use ema::{Follower, ema};
pub use norms::{Norms, norm};
pub use optimizer::{Algorithm, Optimizer};
pub use rules::{Clip, Decay, Rate, Rules};
pub use schedule::Cosine;
pub use step::Step;
