//! What an evaluation leaves in its folder: masks as the official tools read them, scores, pictures.
//!
//! ```text
//! masks/SEQUENCE/FRAME.png         palette PNG of every frame
//! global_results-SPLIT.csv         the official evaluator's files
//! per-sequence_results-SPLIT.csv
//! scores.json                      the same with every frame
//! overlays/SEQUENCE.gif            objects drawn over the frames
//! report.html                      all of it to look at
//! ```

use super::{overlay, page};
use crate::about::About;
use crate::whole;
use anyhow::{Context, Result};
use selfpatch_datasets::{Mask, VideoSource, write_mask_with};
use selfpatch_eval::{DavisReport, Error, global_csv, per_sequence_csv};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Columns of an animation.
const WIDTH: u32 = 480;

/// A folder for the results of one model.
pub struct Results {
    folder: PathBuf,
}

impl Results {
    /// Makes the folder. Masks of an earlier evaluation are removed: they would be taken for these.
    pub fn new(folder: &Path) -> Result<Self> {
        for part in ["masks", "overlays"] {
            let old = folder.join(part);
            if old.is_dir() && folder.join("scores.json").is_file() {
                fs::remove_dir_all(&old).with_context(|| old.display().to_string())?;
            }
        }
        fs::create_dir_all(folder.join("masks")).with_context(|| folder.display().to_string())?;
        Ok(Self { folder: folder.to_path_buf() })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folders with files, and how many levels of folders below each have some.
    pub fn places(folder: &Path) -> [(PathBuf, usize); 3] {
        [(folder.into(), 0), (folder.join("overlays"), 0), (folder.join("masks"), 1)]
    }

    /// Writes the ids of a frame in the colours of its sequence.
    pub fn mask(&self, videos: &dyn VideoSource, sequence: &str, frame: usize, mask: &Mask) -> Result<(), Error> {
        let folder = self.folder.join("masks").join(sequence);
        if frame == 0 {
            fs::create_dir_all(&folder).map_err(|e| Error::Output { path: folder.clone(), reason: e.to_string() })?;
        }
        let path = folder.join(format!("{}.png", videos.frame_name(sequence, frame)?));
        Ok(write_mask_with(path, mask, videos.palette(sequence)?.as_deref())?)
    }
}

/// `scores.json`.
#[derive(Serialize, Deserialize)]
pub struct Saved {
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

impl Saved {
    /// Writes `scores.json` and the files of the official evaluator into `folder`, which exists.
    pub fn write(&self, folder: &Path, split: &str) -> Result<()> {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            whole::write(&path, text)
        };
        write("scores.json", &serde_json::to_string_pretty(self)?)?;
        write(&format!("global_results-{split}.csv"), &global_csv(&self.report))?;
        write(&format!("per-sequence_results-{split}.csv"), &per_sequence_csv(&self.report))
    }

    /// Reads it back.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("scores.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{}: cannot be read; eval-davis --output-dir writes it", path.display()))?;
        let not = || format!("{}: not the scores of eval-davis", path.display());
        let mut saved: Self = serde_json::from_str(&text).with_context(not)?;
        for (_, sequence) in &mut saved.report.sequences {
            let objects = (1..).zip(&mut sequence.objects);
            objects.filter(|(_, object)| object.id == 0).for_each(|(number, object)| object.id = number);
        }
        Ok(saved)
    }
}

/// An animation of every sequence that has masks in `folder`.
pub fn write_overlays(folder: &Path, videos: &dyn VideoSource) -> Result<()> {
    let overlays = folder.join("overlays");
    fs::create_dir_all(&overlays).with_context(|| overlays.display().to_string())?;
    for sequence in videos.sequences() {
        let masks = folder.join("masks").join(&sequence);
        // What failed on the way has no masks, or not all of them.
        if masks.is_dir() && videos.frames(&sequence).is_ok() {
            overlay::animation(&overlays.join(format!("{sequence}.gif")), videos, &sequence, &masks, WIDTH)?;
        }
    }
    Ok(())
}

/// `report.html` in `folder`, of these results side by side.
pub fn write_page(folder: &Path, results: &[PathBuf], videos: &dyn VideoSource) -> Result<()> {
    let runs = results.iter().map(|folder| page::read_run(folder)).collect::<Result<Vec<_>>>()?;
    let path = folder.join("report.html");
    whole::write(&path, page::page(&runs, videos)?)
}
