//! Weight files: PyTorch's `.pth` and safetensors in, safetensors out.
//!
//! ```no_run
//! # use std::path::Path;
//! # fn main() -> Result<(), selfpatch_weights::WeightsError> {
//! let path = Path::new("dino_deitsmall16_pretrain_full_checkpoint.pth");
//! let teacher = selfpatch_weights::read(path, &candle_core::Device::Cpu)?
//!     .select(Some("teacher"))?
//!     .without_prefixes();
//! # let expected = Vec::new();
//! selfpatch_weights::check_strict(&expected, &teacher.tensors, &teacher.path)?;
//! # Ok(())
//! # }
//! ```
//!
//! Files are treated as hostile. A `.pth` is a zip archive around a pickle: every entry's CRC-32 is verified, the
//! pickle is read as data by an interpreter of the few instructions that `torch.save` emits, and each tensor's shape,
//! offset and strides are checked against the bytes stored for it. This crate executes nothing, decompresses nothing,
//! reads and writes nothing outside the given path, and converts no dtypes.

mod archive;
mod atomic;
mod bytes;
mod error;
mod file;
mod globals;
mod machine;
mod mismatch;
mod names;
mod pickle;
mod place;
mod pth;
mod reader;
mod regular;
mod safetensors;
mod value;

pub use candle_core;
pub use error::WeightsError;
pub use file::{Weights, read};
pub use mismatch::Mismatch;
pub use names::check_strict;
pub use place::Place;
pub use regular::open_file;
pub use safetensors::write_safetensors;
