//! `report.html`: a run on one page that can be sent to someone.
//!
//! One file without scripts and without a single outside resource: the charts are inline
//! SVG, the pictures data, the style follows the reader's light or dark setting and fits a
//! phone. Until the run is finished the page loads itself again every half minute.
//!
//! The page depends on files of the run folder alone (`log.jsonl`, `config.toml`, `alarms.jsonl`,
//! pictures), so writing it again is always safe.

mod charts;
mod style;
mod summary;
#[cfg(test)]
mod tests;

use crate::alarms::{self, Alarm};
use crate::log::{self, LogError};
use crate::outline::config_text;
use crate::{Outline, Progress, Record, Sheet, health, name_file, replace_file};
use selfpatch_figures::words::utc;
use selfpatch_figures::{document, escape};
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use style::STYLE;

/// Name of the page in the run folder.
pub const FILE_NAME: &str = "report.html";

/// Seconds after which the page of an unfinished run loads itself again.
const REFRESH: u32 = 30;

/// Writes `report.html` into `run_dir`, in place of an older one, with what `sheet` says of the task.
///
/// A missing log or configuration is said on the page. The title is the configuration's
/// `name` (at the top, or in `[run]`), else the folder's name.
///
/// # Errors
/// When a file cannot be read or written, and [`io::ErrorKind::InvalidData`] for a damaged
/// log (see [`log::read`]).
pub fn write_report(run_dir: &Path, sheet: &Sheet) -> io::Result<()> {
    let records = log::read(run_dir).map_err(|error| match &error {
        LogError::Io { source, .. } => io::Error::new(source.kind(), error.to_string()),
        LogError::Line { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
    })?;
    let config = config_text(run_dir)?;
    let outline = config.as_deref().map(Outline::of).unwrap_or_default();
    let run = Run {
        name: outline.name_or_folder(run_dir),
        progress: Progress::of(&outline, &records),
        alarms: alarms::read(run_dir)?,
        pictures: (sheet.pictures)(run_dir)?,
        sheet: *sheet,
        written: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        config,
        outline,
        records,
    };
    let path = run_dir.join(FILE_NAME);
    replace_file(&path, page(&run).as_bytes()).map_err(name_file(&path))
}

/// The pictures of a task that has none.
///
/// # Errors
/// There are no errors.
pub fn no_pictures(_run: &Path) -> io::Result<String> {
    Ok(String::new())
}

/// All that the page shows.
struct Run {
    sheet: Sheet,
    name: String,
    /// The text of `config.toml`.
    config: Option<String>,
    outline: Outline,
    progress: Progress,
    records: Vec<Record>,
    alarms: Vec<Alarm>,
    /// Pictures as markup; empty where there are none.
    pictures: String,
    /// Time of writing, in seconds since 1970.
    written: u64,
}

fn page(run: &Run) -> String {
    let name = escape(&run.name);
    let is_going_on = run.outline.epochs.is_some() && !run.progress.is_finished();
    let refresh = is_going_on.then_some(REFRESH);
    let again = refresh.map_or(String::new(), |seconds| format!(", loads itself again every {seconds} seconds"));
    let body = if let Some(last) = run.records.last() {
        [
            summary::tiles(&run.progress, &run.outline, &run.sheet, &run.records, last),
            summary::alarms(&run.alarms),
            summary::health(&health::readings(&run.outline, &run.sheet, &run.records)),
            run.pictures.clone(),
            charts::sections(&run.records, &run.outline, &run.sheet),
        ]
        .join("\n")
    } else {
        let nothing = "<p>The log holds no record yet.</p>";
        [nothing, &summary::alarms(&run.alarms), &run.pictures].join("\n")
    };
    let settings = run.config.as_ref().map_or_else(
        || "<p>There is no <code>config.toml</code> in the run folder.</p>".to_owned(),
        |text| format!("<pre>{}</pre>", escape(text.trim())),
    );
    let written = utc(run.written);
    let title = format!("{name} · training report");
    let body = format!(
        r#"<h1>{name}</h1>
<p class="note">Written {written}{again}.</p>
{body}
<h2>Settings</h2>
{settings}"#
    );
    document(&title, refresh, STYLE, &body)
}
