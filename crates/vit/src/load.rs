//! A backbone from a weight file.

use crate::{Vit, VitConfig};
use candle_core::{DType, Device};
use selfpatch_nn::Params;
use selfpatch_nn::weights::{Weights, WeightsError, check_strict, read};
use std::path::Path;

impl Vit {
    /// Loads a backbone in f32 from safetensors or `.pth`.
    ///
    /// `key` picks one network of a training checkpoint (`teacher`, `student`; DINO's
    /// `--checkpoint-key`). Prefixes `module.` and `backbone.` are taken off; of a whole network only
    /// the backbone is used. Shapes are read from the file; `num_heads` is not in them: 0 takes it
    /// from the file's metadata, else 64 channels per head.
    ///
    /// Missing, extra and mis-shaped names are an error that lists them.
    pub fn load(path: &Path, key: Option<&str>, num_heads: usize, device: &Device) -> Result<Self, WeightsError> {
        let weights = backbone(read(path, device)?.select(key)?);
        let stated = weights.metadata.get("num_heads").and_then(|n| n.parse().ok()).unwrap_or(0);
        let heads = if num_heads > 0 { num_heads } else { stated };
        let fail = |e| WeightsError::Model { path: path.into(), source: Box::new(e) };
        let config = VitConfig::of_weights(&weights.tensors, heads).map_err(fail)?;
        let params = Params::frozen(0);
        let vit = Vit::new(&config, params.builder(DType::F32, device)).map_err(fail)?;
        check_strict(&params.shapes(), &weights.tensors, path)?;
        params.assign(weights.tensors.iter().map(|(name, t)| (name.as_str(), t))).map_err(fail)?;
        Ok(vit)
    }
}

/// The backbone's part of a network's weights.
fn backbone(weights: Weights) -> Weights {
    let any = |w: &Weights, prefix: &str| w.tensors.keys().any(|k| k.starts_with(prefix));
    let weights = if any(&weights, "module.") { weights.scoped("module") } else { weights };
    let mut weights = if any(&weights, "backbone.") { weights.scoped("backbone") } else { weights };
    // timm's classifier, which features do not need.
    weights.tensors.remove("head.weight");
    weights.tensors.remove("head.bias");
    weights
}
