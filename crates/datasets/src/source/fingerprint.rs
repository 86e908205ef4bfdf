//! A number for the files that something was made of.

use crate::Error;
use std::fs;
use std::path::PathBuf;

/// A name for what is made of `files` as they are now: their places, sizes and times, and `how`.
pub(super) fn fingerprint(files: &[PathBuf], how: &str) -> Result<String, Error> {
    let mut hash = blake3::Hasher::new();
    hash.update(how.as_bytes());
    for file in files {
        let real = fs::canonicalize(file).map_err(|e| Error::io(file, e))?;
        let about = fs::metadata(&real).map_err(|e| Error::io(file, e))?;
        let changed = about.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        hash.update(real.as_os_str().as_encoded_bytes());
        hash.update(&about.len().to_le_bytes());
        hash.update(&changed.unwrap_or_default().as_nanos().to_le_bytes());
    }
    Ok(hash.finalize().to_hex()[..32].to_string())
}
