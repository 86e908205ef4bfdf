//! Differentiable layers and fused ops that candle lacks, seeded initialisation, and an ordered
//! parameter store.
//!
//! candle's `LayerNorm` and `softmax_last_dim` have no gradient; the ops here do, and each is tested
//! against a plain reference and against finite differences. The fused kernels run on the CPU in
//! f32; every other device and dtype takes the reference path.
//!
//! Refused: shapes that do not fit (an error that states both), a second backward pass through one
//! forward pass, `Tensor::backward` through a fused op that has parameters ([`backward`] does it).
//!
//! ```
//! use selfpatch_nn::{Linear, Params, ops};
//! use selfpatch_nn::candle_core::{DType, Device, Tensor};
//!
//! # fn main() -> candle_core::Result<()> {
//! let params = Params::trainable(0);
//! let vb = params.builder(DType::F32, &Device::Cpu);
//! let layer = Linear::new(8, 4, vb.pp("fc"))?;
//! let x = Tensor::randn(0f32, 1f32, (2, 3, 8), &Device::Cpu)?;
//! let loss = ops::gelu(&layer.forward(&x)?)?.sqr()?.sum_all()?;
//! let grads = selfpatch_nn::backward(&loss)?;
//! for (name, var) in params.iter() {
//!     assert!(grads.get(&var).is_some(), "{name} got no gradient");
//! }
//! # Ok(())
//! # }
//! ```

pub use candle_core;
pub use candle_nn;

mod backbone;
mod batch_norm;
#[cfg(feature = "cuda")]
pub mod cuda;
mod gradients;
mod kernel;
mod layers;
pub mod ops;
mod params;
mod precision;
pub mod random;
pub mod room;
mod sequences;
#[cfg(test)]
mod testing;
pub mod transfer;

pub use backbone::{Backbone, Cut, Group, Pass, Patches};
pub use batch_norm::{Affine, BatchNorm, BatchNormConfig, Mode};
pub use gradients::{Gradients, backward, deposit_tensor};
pub use layers::{Block, ClassBlock, LayerNorm, Linear, Mlp, Survival, WEIGHT_INIT, drop_path_rates, torch_default};
pub use params::{Params, is_buffer};
pub use precision::{Precision, autocast};
pub use sequences::Sequences;
