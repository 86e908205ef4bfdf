//! The bare backbone of a run, for others to use.

use crate::{Config, Error};
use candle_core::Tensor;
use selfpatch_nn::weights::write_safetensors;
use std::path::{Path, PathBuf};

/// Writes `export/backbone.safetensors`: the teacher's backbone under DINO's and timm's names, with
/// its shapes in the file's metadata. `teacher`: all its parameters. Returns the path.
pub fn export(run: &Path, config: &Config, teacher: &[(String, Tensor)]) -> Result<PathBuf, Error> {
    let path = run.join("export").join("backbone.safetensors");
    let folder = run.join("export");
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    write_safetensors(&path, &backbone(teacher), &shapes(config)?)?;
    Ok(path)
}

/// What a reader of weights cannot see in the tensors, as metadata of the file.
pub fn shapes(config: &Config) -> Result<Vec<(String, String)>, Error> {
    let vit = config.vit()?;
    let metadata = [
        ("model", "selfpatch-vit".to_string()),
        ("num_heads", vit.num_heads.to_string()),
        ("patch_size", vit.patch_size.to_string()),
        ("image_size", vit.image_size.to_string()),
        ("run", config.name.clone()),
    ];
    Ok(metadata.map(|(k, v)| (k.to_string(), v)).to_vec())
}

/// Tensors of the backbone without their prefix.
fn backbone(params: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    params.iter().filter_map(|(name, t)| Some((name.strip_prefix("backbone.")?.to_string(), t.clone()))).collect()
}
