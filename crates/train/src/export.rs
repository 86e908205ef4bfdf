//! What others use of a run, with what its configuration tells them.

use crate::{Config, Error, date};
use candle_core::Tensor;
use std::path::Path;

/// Writes the teacher's backbone and class attention into `export/` of the run's folder, with what their tensors do not
/// tell in the files' metadata. `teacher`: all parameters of the teacher.
pub fn export(run: &Path, config: &Config, teacher: &[(String, Tensor)]) -> Result<(), Error> {
    let folder = run.join(selfpatch_model::FOLDER);
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let mut metadata = metadata(config)?;
    // Not in checkpoints: those of equal runs are equal, byte for byte.
    metadata.push(("date".into(), date::now()));
    Ok(selfpatch_model::export(run, teacher, &metadata)?)
}

/// What a reader of weights cannot see in the tensors, as metadata of the file: heads, sizes, and how images become
/// what the network sees. Numbers and lists are written as JSON.
pub fn metadata(config: &Config) -> Result<Vec<(String, String)>, Error> {
    let (vit, data) = (config.vit()?, &config.data);
    let list = |values: &[f32]| format!("[{}]", values.iter().map(f32::to_string).collect::<Vec<_>>().join(","));
    let mut metadata = vec![
        ("model", "selfpatch-vit".to_string()),
        ("num_heads", vit.num_heads.to_string()),
        ("patch_size", vit.patch_size.to_string()),
        ("image_size", vit.image_size.to_string()),
        ("norm_eps", vit.norm_eps.to_string()),
        ("channels", data.channels.to_string()),
        ("mean", list(&data.mean)),
        ("std", list(&data.std)),
        ("run", config.name.clone()),
        ("program", concat!("selfpatch ", env!("CARGO_PKG_VERSION")).to_string()),
    ];
    if let Some(range) = &data.range {
        let text = serde_json::to_string(range);
        metadata
            .push(("range", text.map_err(|e| Error::Config { field: "data.range".into(), reason: e.to_string() })?));
    }
    Ok(metadata.into_iter().map(|(k, v)| (k.to_string(), v)).collect())
}
