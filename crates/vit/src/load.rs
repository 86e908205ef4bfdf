//! A backbone from a weight file.

use crate::{Pretrained, Vit};
use candle_core::Device;
use selfpatch_weights::WeightsError;
use std::path::Path;

impl Vit {
    /// Loads a backbone in f32 from safetensors or `.pth`, as [`Pretrained::read`] finds it.
    ///
    /// `key` picks one network of a training checkpoint (`teacher`, `student`; DINO's `--checkpoint-key`). Prefixes
    /// are recognised; of a complete network only the backbone is used. Shapes are read from the file, but the number
    /// of heads is not in them: `num_heads` of 0 takes it from the file's metadata or a `config.json` beside it,
    /// otherwise one head per 64 channels.
    ///
    /// Missing, extra and mis-shaped names are an error that lists them.
    pub fn load(path: &Path, key: Option<&str>, num_heads: usize, device: &Device) -> Result<Self, WeightsError> {
        Pretrained::read(path, key, num_heads, device)?.vit(device)
    }
}
