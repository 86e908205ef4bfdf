//! Atomic writes: a path always holds the complete old file or the complete new one.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::WeightsError;

/// Lets `write` fill a temporary file beside `path`, then renames it to `path`.
pub(crate) fn atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<(), WeightsError>,
) -> Result<(), WeightsError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let io = |action| move |source| WeightsError::Io { path: path.to_path_buf(), action, source };
    let name = path.file_name().ok_or_else(|| io("write")(std::io::Error::other("the path names no file")))?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let unique = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}-{}.tmp", unique.0, unique.1));
    let temporary = folder.join(temporary);

    let attempt = || {
        let file = File::create(&temporary).map_err(io("create"))?;
        let mut out = BufWriter::new(&file);
        write(&mut out)?;
        out.flush().map_err(io("write"))?;
        drop(out);
        file.sync_all().map_err(io("synchronise"))?;
        std::fs::rename(&temporary, path).map_err(io("rename the new file to"))?;
        sync_folder(&folder).map_err(io("synchronise the folder of"))
    };
    let outcome = attempt();
    if outcome.is_err() {
        // Best effort: after a successful rename there is nothing left to remove.
        let _ = std::fs::remove_file(&temporary);
    }
    outcome
}

/// Makes the rename itself durable.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}
