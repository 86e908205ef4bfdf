//! AdamW, SGD and LARS with the reference's parameter groups, per-tensor clipping, cosine schedules
//! and the exponential moving average of the teacher.
//!
//! Schedules are pure functions of the step; all other state can be saved and restored.
//!
//! Refused: an average between networks whose parameters differ in name or shape, moments that do
//! not match their step counts.
//!
//! ```
//! use selfpatch_optim::candle_core::{DType, Device, Var};
//! use selfpatch_optim::{Algorithm, Cosine, Optimizer, clip_per_tensor};
//!
//! # fn main() -> selfpatch_optim::candle_core::Result<()> {
//! let weight = Var::ones((2, 2), DType::F32, &Device::Cpu)?;
//! let params = [("fc.weight".to_string(), weight.clone())];
//! let rate = Cosine::new(1e-3, 1e-6, 100).with_warmup(10);
//! let mut optimizer = Optimizer::new(Algorithm::AdamW);
//! for step in 0..3 {
//!     let mut grads = weight.sqr()?.sum_all()?.backward()?;
//!     clip_per_tensor(&params, &mut grads, 3.0)?;
//!     optimizer.step(&params, &grads, rate.at(step), 0.04)?;
//! }
//! # Ok(())
//! # }
//! ```

pub use candle_core;

mod ema;
mod groups;
mod optimizer;
mod schedule;
mod update;

pub use ema::ema;
pub use groups::{clip_per_tensor, is_decayed, norm};
pub use optimizer::{Algorithm, Optimizer};
pub use schedule::Cosine;
