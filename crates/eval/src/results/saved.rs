//! What `scores.json` holds.

use super::whole::replace;
use crate::about::About;
use crate::csv::{global_csv, per_sequence_csv};
use crate::error::Error;
use crate::scores::DavisReport;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// `scores.json`.
#[derive(Serialize, Deserialize)]
pub struct SavedResults {
    /// What was evaluated.
    pub label: String,
    /// The scores of what could be scored.
    pub report: DavisReport,
    /// Sequences with too few annotations.
    pub unscored: Vec<String>,
    /// Sequences that could not be carried through, and why.
    pub failed: BTreeMap<String, String>,
    /// What of a sequence was not used, or counted otherwise than elsewhere.
    #[serde(default)]
    pub notes: Vec<(String, String)>,
    /// The scores of the same architecture with random initial values; of masks of any program there are none.
    #[serde(default)]
    pub random_initialisation: Option<DavisReport>,
    /// The scores of the first mask on every frame.
    #[serde(default)]
    pub first_mask_copied: Option<DavisReport>,
    /// What the scores belong to.
    #[serde(flatten)]
    pub about: About,
}

impl SavedResults {
    /// Writes `scores.json` and the files of the official evaluator into `folder`, which exists.
    ///
    /// # Errors
    /// [`Error::Results`].
    pub fn write(&self, folder: &Path, split: &str) -> Result<(), Error> {
        let path = folder.join("scores.json");
        let json = serde_json::to_string_pretty(self).map_err(|e| Error::results(&path, e))?;
        replace(&path, json)?;
        replace(&folder.join(format!("global_results-{split}.csv")), global_csv(&self.report))?;
        replace(&folder.join(format!("per-sequence_results-{split}.csv")), per_sequence_csv(&self.report))
    }

    /// Reads the scores in `folder`.
    ///
    /// # Errors
    /// [`Error::Results`] for a file that is not there or that `eval-davis` did not write.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("scores.json");
        let absent = |e| Error::results(&path, format!("cannot be read; eval-davis --output-dir writes it: {e}"));
        let text = fs::read_to_string(&path).map_err(absent)?;
        let not = |e| Error::results(&path, format!("not the scores of eval-davis: {e}"));
        let mut saved: Self = serde_json::from_str(&text).map_err(not)?;
        for (_, sequence) in &mut saved.report.sequences {
            let objects = (1..).zip(&mut sequence.objects);
            objects.filter(|(_, object)| object.id == 0).for_each(|(number, object)| object.id = number);
        }
        Ok(saved)
    }
}
