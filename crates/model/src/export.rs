//! What a run leaves of its teacher for others to use.

use candle_core::Tensor;
use selfpatch_weights::{WeightsError, write_safetensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder of exports within that of a run.
pub const FOLDER: &str = "export";
/// The bare backbone, under DINO's and timm's names.
pub const BACKBONE: &str = "backbone.safetensors";
/// The class attention, under the names of checkpoints (`ca_head.…`).
pub const CLASS_ATTENTION: &str = "class_attention.safetensors";

/// The exported backbone of a run.
pub fn backbone(run: &Path) -> PathBuf {
    run.join(FOLDER).join(BACKBONE)
}

/// The exported class attention of a run.
pub fn class_attention(run: &Path) -> PathBuf {
    run.join(FOLDER).join(CLASS_ATTENTION)
}

/// Writes backbone and class attention of `teacher`, which are all its parameters by their names in checkpoints, into the
/// folder of a run. `metadata`: what the tensors do not tell.
///
/// # Errors
/// When a file cannot be written.
pub fn export(run: &Path, teacher: &[(String, Tensor)], metadata: &[(String, String)]) -> Result<(), WeightsError> {
    let all: BTreeMap<String, Tensor> = teacher.iter().cloned().collect();
    let bare = teacher.iter().filter_map(|(name, t)| Some((name.strip_prefix("backbone.")?.to_string(), t.clone())));
    let attention: Vec<_> = all.into_iter().filter(|(name, _)| name.starts_with("ca_head.")).collect();
    write_safetensors(&class_attention(run), &attention, metadata)?;
    // Last: whoever finds it finds the other.
    write_safetensors(&backbone(run), &bare.collect::<Vec<_>>(), metadata)
}

/// Tensors whose names begin with `prefix`, without it.
pub(crate) fn named(tensors: &BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_string(), t.clone()))).collect()
}
