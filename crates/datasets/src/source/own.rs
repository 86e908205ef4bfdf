//! Folders that this program writes, whose pictures are no data.

use std::fs;
use std::path::Path;

/// Beside the settings of a run there is one of these.
const OF_RUN: [&str; 3] = ["lock", "log.jsonl", "checkpoints"];

/// A section that the settings of a run have, and hardly those of another program.
const SECTION: &str = "[patch_loss]";

/// Files that lie together where `inspect-data` and `eval-davis` write.
const OF_OTHERS: [[&str; 2]; 2] = [["inspection.json", "index.html"], ["scores.json", "report.html"]];

/// Whether `folder` is that of a run, or one where `inspect-data` or `eval-davis` has written.
pub(super) fn is_own(folder: &Path) -> bool {
    let has = |name: &&str| folder.join(name).exists();
    let is_run = OF_RUN.iter().any(has)
        && fs::read_to_string(folder.join("config.toml")).is_ok_and(|text| text.contains(SECTION));
    is_run || OF_OTHERS.iter().any(|names| names.iter().all(has))
}
