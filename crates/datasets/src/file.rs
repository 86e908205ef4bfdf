//! Image files whole in memory, none of which may fill it.

use crate::Error;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Longest image file that is read at all: 4 GiB, as long as a plain TIFF can be. The usual limit is that
/// of `Decoding`, for what has been read.
const MAX_BYTES: u64 = 1 << 32;

/// The contents of an image file.
pub(crate) fn contents(path: &Path) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let size = admit(size).map_err(|reason| Error::decode(path, reason))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|e| Error::decode(path, format!("has {size} bytes: {e}")))?;
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    Ok(bytes)
}

/// The size of an image file that may be read.
pub(crate) fn admit(size: u64) -> Result<usize, String> {
    let allowed = usize::try_from(size).ok().filter(|_| size <= MAX_BYTES);
    allowed.ok_or_else(|| format!("has {size} bytes; of image files at most {MAX_BYTES} are read"))
}
