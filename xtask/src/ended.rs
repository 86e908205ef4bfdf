//! Where cargo puts its output, and how a chore ends.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Cargo's target folder, in which this program lies.
pub fn target() -> Result<PathBuf, String> {
    let own = env::current_exe().map_err(|e| format!("this program cannot find itself: {e}"))?;
    let target = own.parent().and_then(Path::parent).ok_or("this program is in no target folder")?;
    Ok(target.to_path_buf())
}

/// Prints an error, if there is one.
pub fn told(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            note!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
