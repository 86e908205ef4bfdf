//! Saving and restoring all state of a training; `docs/checkpoints.md` describes the files.
//!
//! `checkpoints/step-NNNNNN/` holds `student`, `teacher`, `optimizer` and `centers` as safetensors, the
//! `config.toml` that they were made with, `state.json` with the step, the optimiser's step counts and a
//! BLAKE3 digest of each file, and `state.b3`, the digest of `state.json`. It is written under another
//! name, brought to the disk, and renamed when complete.

mod read;
mod saver;
mod snapshot;
mod write;

pub use read::{Found, newest, restore, usable};
pub use saver::Saver;
pub use snapshot::Snapshot;
pub use write::write;

use crate::{Error, Scaler};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Version of the layout; another one is refused.
const FORMAT: u32 = 2;

/// `state.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    format: u32,
    /// Finished steps.
    pub step: usize,
    /// Images of the data, which tell where in an epoch the step is.
    pub images: usize,
    /// Step count of each parameter in the optimiser.
    optimizer_steps: BTreeMap<String, u64>,
    /// Scale of the loss, in fp16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scaler: Option<Scaler>,
    /// File name to BLAKE3 digest.
    files: BTreeMap<String, String>,
}

/// Checkpoints of a run by step, oldest first.
pub fn list(run: &Path) -> Result<Vec<(usize, PathBuf)>, Error> {
    let folder = run.join("checkpoints");
    // A folder that cannot be reached is no folder without checkpoints.
    match fs::symlink_metadata(&folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io(&folder))?,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Error::io(&folder))? {
        let path = entry.map_err(Error::io(&folder))?.path();
        let step = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("step-")?.parse().ok());
        found.extend(step.map(|step| (step, path)));
    }
    found.sort();
    Ok(found)
}

fn digest(path: &Path) -> Result<String, Error> {
    let mut hasher = blake3::Hasher::new();
    let mut file = fs::File::open(path).map_err(Error::io(path))?;
    std::io::copy(&mut file, &mut hasher).map_err(Error::io(path))?;
    Ok(hasher.finalize().to_hex().to_string())
}
