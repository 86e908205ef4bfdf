//! The files of the report.

use super::report::GpuReport;
use super::table;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The report's name.
pub const JSON: &str = "gpu-report.json";
const TABLES: &str = "gpu-report.md";

/// Writes report and tables, each whole or not at all.
pub fn save(report: &GpuReport, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let json = serde_json::to_string_pretty(report)?;
    for (name, text) in [(JSON, json), (TABLES, table::markdown(report))] {
        let (part, path) = (part(folder, name), folder.join(name));
        std::fs::write(&part, text)
            .and_then(|()| std::fs::rename(&part, &path))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// What a file of the report is called while it is written.
fn part(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.part"))
}

/// What may lie in `folder` where writing the report was cut off.
pub fn parts(folder: &Path) -> [PathBuf; 2] {
    [JSON, TABLES].map(|name| part(folder, name))
}
