//! Class-attention pooling of an image and of each patch's positives (`SelfPatchHead` of the reference).
//!
//! One learned query reads a set of tokens through two class-attention blocks. Over all patches of an image this
//! gives its class token; over the positives of one patch it gives the target of that patch.
//!
//! Refused: heads that do not divide the width, a depth of zero.
//!
//! ```
//! use selfpatch_aggregation::candle_core::{DType, Device, Tensor};
//! use selfpatch_aggregation::matching::{Border, Neighbours, positives};
//! use selfpatch_aggregation::{Aggregator, AggregatorConfig, Params};
//!
//! # fn main() -> selfpatch_aggregation::candle_core::Result<()> {
//! let params = Params::frozen(0); // or a VarBuilder over loaded weights
//! let head = Aggregator::new(&AggregatorConfig::new(48, 3), params.builder(DType::F32, &Device::Cpu))?;
//! let tokens = Tensor::randn(0f32, 1f32, (2, 36, 48), &Device::Cpu)?; // [B, N, D]
//! let chosen = positives(&tokens, &Neighbours::new(6, 6, 3, Border::Torus)?, 4)?;
//! assert_eq!(head.patches(&tokens, &chosen)?.dims(), [2, 36, 48]); // one target per patch
//! assert_eq!(head.image(&tokens)?.dims(), [2, 48]); // one class token per image
//! # Ok(())
//! # }
//! ```

pub use candle_core;
pub use candle_nn;
pub use selfpatch_matching as matching;
pub use selfpatch_nn::Params;

mod aggregator;

pub use aggregator::{Aggregator, AggregatorConfig, mean_of_positives};
