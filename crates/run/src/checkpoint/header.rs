//! The header of a checkpoint, `state.json`.

use crate::Error;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Version of the layout; another one is refused.
pub(super) const FORMAT: u32 = 2;

/// Content of `state.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub format: u32,
    /// Finished steps.
    pub step: usize,
    /// Images of the data, which tell where in an epoch the step is.
    pub images: usize,
    /// Values of the task.
    #[serde(flatten)]
    pub values: Map<String, Value>,
    /// BLAKE3 digest of each file, by its name.
    pub files: BTreeMap<String, String>,
}

/// BLAKE3 digest of a file as hexadecimal digits.
pub(super) fn digest(path: &Path) -> Result<String, Error> {
    let mut hasher = blake3::Hasher::new();
    let mut file = fs::File::open(path).map_err(Error::io(path))?;
    std::io::copy(&mut file, &mut hasher).map_err(Error::io(path))?;
    Ok(hasher.finalize().to_hex().to_string())
}
