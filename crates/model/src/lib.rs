//! An encoder: a backbone with what makes one feature of an image's tokens, new, from a run's export, or from any weight
//! file.
//!
//! ```
//! use selfpatch_model::Encoder;
//! use selfpatch_model::candle_core::{DType, Device, Tensor};
//! use selfpatch_vit::VitConfig;
//!
//! # fn main() -> selfpatch_model::candle_core::Result<()> {
//! let encoder = Encoder::new(&VitConfig::new(48, 2, 3, 16), None, 0, &Device::Cpu)?;
//! let images = Tensor::zeros((2, 3, 64, 96), DType::F32, &Device::Cpu)?; // normalised RGB
//! assert_eq!(encoder.features(&images)?.dims(), [2, 48]);
//! # Ok(())
//! # }
//! ```

pub use candle_core;

mod encoder;
mod export;

pub use encoder::Encoder;
pub use export::{BACKBONE, CLASS_ATTENTION, FOLDER, backbone, class_attention, export};
