//! Results of evaluations, read back, and the sequences in them.

use super::saved::SavedResults;
use crate::about::About;
use crate::error::Error;
use crate::scores::{DavisReport, Scores, SequenceReport};
use selfpatch_datasets::VideoSource;
use std::path::{Path, PathBuf};

/// Results of one evaluation.
pub struct Run {
    /// What was evaluated.
    pub label: String,
    /// Where its masks are.
    pub folder: PathBuf,
    /// Scores of the run.
    pub report: DavisReport,
    /// Sequences with too few annotations to be scored.
    pub unscored: Vec<String>,
    /// Sequences that could not be carried through, and why.
    pub failed: Vec<(String, String)>,
    /// What of a sequence was not used, or counted otherwise than elsewhere.
    pub notes: Vec<(String, String)>,
    /// What its scores are to be compared with: a name and the scores, if it has them.
    pub beside: Vec<(&'static str, Option<DavisReport>)>,
    /// What the scores belong to.
    pub about: About,
}

/// Reads the results that an evaluation left in `folder`.
pub fn read(folder: &Path) -> Result<Run, Error> {
    let SavedResults { label, report, unscored, failed, notes, random_initialisation, first_mask_copied, about } =
        SavedResults::read(folder)?;
    let beside = vec![("random initialisation", random_initialisation), ("first mask copied", first_mask_copied)];
    let (folder, failed) = (folder.to_path_buf(), failed.into_iter().collect());
    Ok(Run { label, folder, report, unscored, failed, notes, beside, about })
}

/// A sequence in all runs.
pub struct Sequence<'a> {
    /// Name of the sequence.
    pub name: &'a str,
    /// Scores of the sequence in each run, where it has some.
    pub reports: Vec<Option<&'a SequenceReport>>,
    /// Names of the video's frames; none where `videos` lack it or cannot read it, as then is said in
    /// [`Run::failed`].
    pub frames: Vec<String>,
}

impl Sequence<'_> {
    /// The scores of each run under `pick`.
    pub fn scores(&self, pick: impl Fn(&SequenceReport) -> Option<Scores>) -> Vec<Option<Scores>> {
        self.reports.iter().map(|report| report.and_then(&pick)).collect()
    }

    /// Whether a run has scores of it.
    pub fn is_scored(&self) -> bool {
        self.reports.iter().any(Option::is_some)
    }

    /// Which frame of the video is called `name`.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.frames.iter().position(|frame| frame == name)
    }
}

/// The sequences of all runs, in the order of the first.
pub fn sequences<'a>(runs: &'a [Run], videos: &dyn VideoSource) -> Result<Vec<Sequence<'a>>, Error> {
    let known = videos.sequences();
    let mut names: Vec<&str> = Vec::new();
    for run in runs {
        let scored = run.report.sequences.iter().map(|(name, _)| name.as_str());
        for name in scored.chain(run.unscored.iter().map(String::as_str)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let sequence = |name: &'a str| -> Result<Sequence<'a>, Error> {
        let report = |run: &'a Run| run.report.sequences.iter().find(|(n, _)| n == name).map(|(_, report)| report);
        let count = if known.iter().any(|k| k == name) { videos.frames(name).unwrap_or(0) } else { 0 };
        let frames =
            (0..count).map(|i| videos.frame_name(name, i)).collect::<Result<_, selfpatch_datasets::Error>>()?;
        Ok(Sequence { name, reports: runs.iter().map(report).collect(), frames })
    };
    names.into_iter().map(sequence).collect()
}
