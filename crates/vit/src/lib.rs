//! The Vision Transformer backbone of SelfPatch, DINO, timm and DINOv2: any width, depth, heads and
//! patch size, any image size that the patch divides, with or without class token and final norm.
//!
//! Weight names are DINO's and timm's; files with the names of DINOv2, MAE, DeiT and Hugging Face transformers are
//! read as well ([`Pretrained`]). Positions are resized bicubically as in the reference, or by the rule of another
//! program ([`Rule`]), so published weights give the published features at every size.
//!
//! Refused, with an error that states the numbers: images that the patch does not divide, heads that
//! do not divide the width, weights of another shape.
//!
//! Patch features of an image:
//!
//! ```
//! use selfpatch_vit::candle_core::{DType, Device, Tensor};
//! use selfpatch_vit::{Vit, VitConfig, candle_nn::VarBuilder};
//!
//! # fn main() -> selfpatch_vit::candle_core::Result<()> {
//! # let dir = std::env::temp_dir().join(format!("selfpatch-vit-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&dir)?;
//! # let path = dir.join("backbone.safetensors");
//! # let params = selfpatch_nn::Params::frozen(0);
//! # Vit::new(&VitConfig::new(48, 2, 3, 16), params.builder(DType::F32, &Device::Cpu))?;
//! # let named: std::collections::HashMap<_, _> = params.tensors().into_iter().collect();
//! # selfpatch_vit::candle_core::safetensors::save(&named, &path)?;
//! // `path` is a backbone exported by `selfpatch train`, or any file with DINO's names.
//! let weights = selfpatch_vit::candle_core::safetensors::load(&path, &Device::Cpu)?;
//! let config = VitConfig::of_weights(&weights.clone().into_iter().collect(), 3)?;
//! let vit = Vit::new(&config, VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu))?;
//!
//! let image = Tensor::zeros((1, 3, 64, 96), DType::F32, &Device::Cpu)?; // normalised RGB
//! let features = vit.patch_features(&image)?; // [1, 4 * 6, 48], row by row
//! assert_eq!(features.dims(), [1, 24, 48]);
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok(())
//! # }
//! ```

pub use candle_core;
pub use candle_nn;
pub use selfpatch_weights::WeightsError;

mod backbone;
mod config;
mod input;
mod layout;
mod load;
mod place;
pub mod position;
mod pretrained;
mod rename;

pub use backbone::Vit;
pub use config::VitConfig;
pub use input::Stated;
pub use place::Naming;
pub use position::Rule;
pub use pretrained::{Pretrained, summary};
pub use selfpatch_nn::ops::Activations;
pub use selfpatch_nn::{Backbone, Group, Pass, Patches};

/// The example of `docs/weights.md` compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/weights.md")]
struct FromRust;
