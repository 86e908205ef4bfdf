//! Patch neighbourhoods on any grid and positive matching: for each patch token, the `k` most
//! similar of its neighbours by cosine similarity (`SelfPatchHead.forward` of the reference).
//!
//! Windows are squares with an odd side; at the border they wrap around as in the reference, or are clipped
//! ([`Border`]). The choice is deterministic: ties go to the lower patch number.
//!
//! Refused: even windows, `k` outside `1..=neighbours`, tokens that do not match the grid.
//!
//! ```
//! use selfpatch_matching::{Border, Neighbours, positives};
//! use selfpatch_matching::candle_core::{Device, Tensor};
//!
//! # fn main() -> selfpatch_matching::candle_core::Result<()> {
//! let tokens = Tensor::randn(0f32, 1f32, (2, 14 * 14, 192), &Device::Cpu)?; // [B, N, D]
//! let neighbours = Neighbours::new(14, 14, 3, Border::Torus)?;
//! let best = positives(&tokens, &neighbours, 4)?;
//! assert_eq!(best.ids.dims(), [2, 196, 4]); // patch numbers, most similar first
//! # Ok(())
//! # }
//! ```

pub use candle_core;

#[cfg(feature = "cuda")]
mod cuda;
mod neighbours;
mod positives;

pub use neighbours::{Border, Neighbours};
pub use positives::{Positives, positives, similarities};
