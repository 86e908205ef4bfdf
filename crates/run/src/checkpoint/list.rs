//! Which checkpoints a run has.

use crate::Error;
use std::fs;
use std::path::{Path, PathBuf};

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
