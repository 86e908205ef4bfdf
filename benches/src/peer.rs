//! Programs that ours is compared with.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// The last line that a script in `peers` prints.
pub fn peer(python: &Path, script: &str, args: &[&str]) -> Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script);
    let output = Command::new(python)
        .args(["-W", "ignore"])
        .arg(script)
        .args(args)
        .output()
        .with_context(|| format!("{} could not be started", python.display()))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{}: {}", python.display(), errors.lines().last().unwrap_or("failed"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_string())
}
