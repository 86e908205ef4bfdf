//! What tells cheaply whether a file may have changed.

use std::fs::{self, Metadata};
use std::path::Path;

/// Size and time of what an image is read from. The same stamp means the same bytes; another time alone may mean
/// no more than that the file was touched or copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes of the image.
    pub bytes: u64,
    /// When the file was last changed, in nanoseconds since 1970: on Unix the time of its status, which no program
    /// can set back, elsewhere that of its content.
    pub time: u64,
}

impl Stamp {
    /// The stamp of the file at `path`, links followed; `None` where there is none that can be asked.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        Some(Self { bytes: about.len(), time: changed(&about)? })
    }
}

#[cfg(unix)]
fn changed(about: &Metadata) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    u64::try_from(i128::from(about.ctime()) * 1_000_000_000 + i128::from(about.ctime_nsec())).ok()
}

#[cfg(not(unix))]
fn changed(about: &Metadata) -> Option<u64> {
    let time = about.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(time.as_nanos()).ok()
}
