//! The DAVIS protocol: carry the first mask of each video through it, then score every frame but
//! the first and the last.

use crate::frames::{FrameSize, first_mask, normalise};
use crate::labels::decide;
use crate::metrics::{SequenceScore, SequenceTally, object_count};
use crate::propagation::{Propagation, Propagator};
use crate::resize::{cv_linear, pillow_nearest};
use crate::{DavisReport, Error};
use selfpatch_datasets::{Mask, VideoSource};

/// Tokens of one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// `[grid_h * grid_w, D]`, row by row, not normalised.
    pub tokens: Vec<f32>,
    /// Rows of the grid.
    pub grid_h: usize,
    /// Columns of the grid.
    pub grid_w: usize,
}

/// A model that describes every patch of a frame.
pub trait DenseFeatures {
    /// Side of a patch in pixels.
    fn patch(&self) -> usize;
    /// Tokens of a frame from its normalised pixels `[3, height, width]`. The grid must be
    /// `height / patch` by `width / patch`, rounded down; what does not fill a patch is left out.
    ///
    /// # Errors
    /// [`Error::Model`] if the model cannot run on this frame.
    fn features(&self, pixels: &[f32], height: usize, width: usize) -> Result<Features, Error>;
}

/// How far an evaluation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Name of the current video.
    pub sequence: &'a str,
    /// Its index, counted from 0.
    pub index: usize,
    /// Number of videos.
    pub sequences: usize,
    /// Frames of this video that are done.
    pub frame: usize,
    /// Frames of this video that have to be done; its last one is never scored and never read.
    pub frames: usize,
}

/// Evaluates `model` on `videos`; `progress` is called after every frame.
///
/// Frames are read at `size`, the predicted ids are brought to the size of the annotation before
/// they are scored. Frames without a mask are carried through but not scored; of those with one,
/// the first (which is given) and the last do not count. At any time one frame and the tokens of
/// the context frames are in memory.
///
/// # Errors
/// [`Error::Config`] for unusable settings; [`Error::Sequence`] if there is no video, or one has
/// no object in its first mask or fewer than three frames with a mask; otherwise what went wrong,
/// as [`Error::Frame`].
pub fn evaluate(
    videos: &dyn VideoSource,
    model: &dyn DenseFeatures,
    propagation: &Propagation,
    size: FrameSize,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<DavisReport, Error> {
    propagation.validate()?;
    if model.patch() == 0 {
        return Err(Error::Config { field: "patch", reason: "must be at least 1".into() });
    }
    over_sequences(videos, |sequence, first, index, sequences| {
        let patch = model.patch();
        let mut state: Option<(Propagator, usize, usize)> = None;
        let frames = videos.frames(sequence)?;
        score(videos, sequence, first, |frame, truth| {
            let (tokens, grid_h, grid_w) = tokens(videos, model, size, sequence, frame)?;
            let soft = match &mut state {
                None => {
                    let mask = first_mask(first, grid_h, grid_w)?;
                    let start = Propagator::new(propagation, grid_h, grid_w, &tokens, &mask)?;
                    state = Some((start, grid_h, grid_w));
                    None
                }
                Some((_, h, w)) if (*h, *w) != (grid_h, grid_w) => {
                    let (expected, found) = (format!("{h} x {w}"), format!("{grid_h} x {grid_w}"));
                    return Err(Error::Shape { what: "grid of the frame", expected, found });
                }
                Some((labels, ..)) => Some(labels.step(&tokens)?),
            };
            progress(Progress { sequence, index, sequences, frame: frame + 1, frames: frames - 1 });
            let Some((soft, truth)) = soft.zip(truth) else { return Ok(None) };
            decide(&soft, grid_h, grid_w, patch, truth.width, truth.height).map(Some)
        })
    })
}

/// The floor of the benchmark: the first mask, copied to every frame of its video.
///
/// # Errors
/// As [`evaluate`].
pub fn first_mask_copied(videos: &dyn VideoSource) -> Result<DavisReport, Error> {
    over_sequences(videos, |sequence, first, _, _| {
        score(videos, sequence, first, |_, truth| {
            let Some(truth) = truth else { return Ok(None) };
            let (width, height) = (truth.width, truth.height);
            let ids = pillow_nearest(&first.ids, first.width, first.height, width, height)?;
            Ok(Some(Mask { width, height, ids }))
        })
    })
}

/// Runs `scored` on every video: name, first mask, index, number of videos.
fn over_sequences(
    videos: &dyn VideoSource,
    mut scored: impl FnMut(&str, &Mask, usize, usize) -> Result<SequenceScore, Error>,
) -> Result<DavisReport, Error> {
    let names = videos.sequences();
    if names.is_empty() {
        return Err(Error::Config { field: "videos", reason: "there is no sequence".into() });
    }
    let sequences = names.len();
    let mut scores = Vec::with_capacity(sequences);
    for (index, name) in names.into_iter().enumerate() {
        let fail = |reason: &str| Error::Sequence { sequence: name.clone(), reason: reason.into() };
        let first = videos.mask(&name, 0).map_err(|e| at(&name, 0, e.into()))?;
        let first = first.ok_or_else(|| fail("the first frame needs a mask"))?;
        if object_count(&first) == 0 {
            return Err(fail("the first mask shows no object, so there is nothing to follow"));
        }
        let score = scored(&name, &first, index, sequences)?;
        scores.push((name, score));
    }
    Ok(DavisReport::of(&scores))
}

/// Asks `predict` for the ids of every frame but the last, in order and with the annotation where
/// there is one to be scored, and scores what it returns.
fn score(
    videos: &dyn VideoSource,
    sequence: &str,
    first: &Mask,
    mut predict: impl FnMut(usize, Option<&Mask>) -> Result<Option<Mask>, Error>,
) -> Result<SequenceScore, Error> {
    let frames = videos.frames(sequence)?;
    let annotation = |frame| videos.mask(sequence, frame).map_err(|e| at(sequence, frame, e.into()));
    // The last frame that has a mask is not scored; if that is not the last frame, its score is
    // taken back in the end.
    let last_is_dropped = frames > 1 && annotation(frames - 1)?.is_some();
    let mut tally = SequenceTally::new(object_count(first));
    for frame in 0..frames.saturating_sub(1) {
        let truth = if frame == 0 { None } else { annotation(frame)? };
        let guess = predict(frame, truth.as_ref()).map_err(|e| at(sequence, frame, e))?;
        if let Some((truth, guess)) = truth.zip(guess) {
            tally.push(&truth, &guess).map_err(|e| at(sequence, frame, e))?;
        }
    }
    if !last_is_dropped {
        tally.drop_last();
    }
    if tally.frames() == 0 {
        return Err(Error::Sequence {
            sequence: sequence.into(),
            reason: "needs masks on at least three frames, because the first and the last are \
                     not scored"
                .into(),
        });
    }
    Ok(tally.finish())
}

/// Tokens and grid of one frame.
fn tokens(
    videos: &dyn VideoSource,
    model: &dyn DenseFeatures,
    size: FrameSize,
    sequence: &str,
    frame: usize,
) -> Result<(Vec<f32>, usize, usize), Error> {
    let picture = videos.frame(sequence, frame)?;
    let patch = model.patch();
    let (width, height) = size.of(picture.width, picture.height, patch)?;
    let pixels = normalise(&cv_linear(&picture, width, height)?);
    let Features { tokens, grid_h, grid_w } = model.features(&pixels, height, width)?;
    let expected = (height / patch, width / patch);
    if (grid_h, grid_w) != expected {
        let expected = format!("{} x {}", expected.0, expected.1);
        return Err(Error::shape("grid of the model", expected, format!("{grid_h} x {grid_w}")));
    }
    Ok((tokens, grid_h, grid_w))
}

fn at(sequence: &str, frame: usize, source: Error) -> Error {
    Error::Frame { sequence: sequence.into(), frame, source: Box::new(source) }
}

#[cfg(test)]
mod tests;
