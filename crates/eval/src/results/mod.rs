//! What an evaluation on videos leaves in its folder: masks as the official tools read them, scores, pictures.
//!
//! ```text
//! masks/SEQUENCE/FRAME.png         palette PNG of every frame
//! global_results-SPLIT.csv         the official evaluator's files
//! per-sequence_results-SPLIT.csv
//! scores.json                      the same with every frame
//! overlays/SEQUENCE.gif            objects drawn over the frames
//! report.html                      all of it to look at
//! ```

mod overlay;
mod page;
mod run;
mod saved;
mod whole;

use crate::Error;
use selfpatch_datasets::{Mask, VideoSource, write_mask_with};
use std::fs;
use std::path::{Path, PathBuf};

pub use saved::SavedResults;
use whole::replace;

/// Columns of an animation.
const WIDTH: u32 = 480;

/// A folder for the results of one model.
pub struct Results {
    folder: PathBuf,
}

impl Results {
    /// Makes the folder. Masks of an earlier evaluation are removed: they would be taken for these.
    ///
    /// # Errors
    /// [`Error::Results`] for what cannot be made or removed.
    pub fn new(folder: &Path) -> Result<Self, Error> {
        for part in ["masks", "overlays"] {
            let old = folder.join(part);
            if old.is_dir() && folder.join("scores.json").is_file() {
                fs::remove_dir_all(&old).map_err(|e| Error::results(&old, e))?;
            }
        }
        fs::create_dir_all(folder.join("masks")).map_err(|e| Error::results(folder, e))?;
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
    ///
    /// # Errors
    /// A file that cannot be written, a video that cannot be read.
    pub fn mask(&self, videos: &dyn VideoSource, sequence: &str, frame: usize, mask: &Mask) -> Result<(), Error> {
        let folder = self.folder.join("masks").join(sequence);
        if frame == 0 {
            fs::create_dir_all(&folder).map_err(|e| Error::Output { path: folder.clone(), reason: e.to_string() })?;
        }
        let path = folder.join(format!("{}.png", videos.frame_name(sequence, frame)?));
        Ok(write_mask_with(path, mask, videos.palette(sequence)?.as_deref())?)
    }
}

/// Writes an animation of every sequence that has masks in `folder`.
///
/// # Errors
/// A file that cannot be written, a video or mask that cannot be read.
pub fn write_overlays(folder: &Path, videos: &dyn VideoSource) -> Result<(), Error> {
    let overlays = folder.join("overlays");
    fs::create_dir_all(&overlays).map_err(|e| Error::results(&overlays, e))?;
    for sequence in videos.sequences() {
        let masks = folder.join("masks").join(&sequence);
        // What failed on the way has no masks, or not all of them.
        if masks.is_dir() && videos.frames(&sequence).is_ok() {
            overlay::animation(&overlays.join(format!("{sequence}.gif")), videos, &sequence, &masks, WIDTH)?;
        }
    }
    Ok(())
}

/// Writes `report.html` in `folder`: the results in these folders side by side.
///
/// # Errors
/// Results that cannot be read, a page that cannot be written.
pub fn write_page(folder: &Path, results: &[PathBuf], videos: &dyn VideoSource) -> Result<(), Error> {
    let runs = results.iter().map(|folder| run::read(folder)).collect::<Result<Vec<_>, _>>()?;
    replace(&folder.join("report.html"), page::page(&runs, videos)?)
}
