//! The DAVIS protocol: propagate the first mask of each video through the video, then score every frame but the first
//! and the last.

use crate::frames::{FrameSize, first_mask, normalise};
use crate::labels::decide;
use crate::metrics::{SequenceTally, object_ids, official_ids};
use crate::propagation::{Propagation, Propagator};
use crate::resize::{cv_linear, pillow_nearest};
use crate::{DavisReport, Error, SequenceReport};
use selfpatch_datasets::{Mask, VideoSource};
use selfpatch_nn::room;

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
    /// Tokens of a frame from its normalised pixels `[3, height, width]`. The grid must be `height / patch` by
    /// `width / patch`, rounded down; pixels beyond the last whole patch are left out.
    ///
    /// # Errors
    /// [`Error::Model`] if the model cannot run on this frame.
    fn features(&self, pixels: &[f32], height: usize, width: usize) -> Result<Features, Error>;
}

/// Settings of an evaluation on videos.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Protocol {
    /// How labels are propagated.
    pub propagation: Propagation,
    /// The size at which the model sees frames.
    pub size: FrameSize,
    /// Whether to decide the ids of every frame, or only of the frames that are scored.
    pub all_masks: bool,
    /// Which ids are objects.
    pub objects: Objects,
}

/// Which ids of a video are objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objects {
    /// The ids that the first mask has.
    #[default]
    Shown,
    /// All ids from 1 to the highest of the first mask, as the official evaluator counts.
    Official,
}

impl Objects {
    /// The ids of the objects, given the first mask.
    pub fn of(self, first: &Mask) -> Vec<u8> {
        match self {
            Self::Shown => object_ids(first),
            Self::Official => official_ids(first),
        }
    }

    /// A description in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shown => "ids of the first mask",
            Self::Official => "official: all ids up to the highest of the first mask",
        }
    }

    /// A note on a first mask that lacks ids below its highest.
    pub fn note(self, first: &Mask) -> Option<String> {
        let (shown, highest) = (object_ids(first), official_ids(first).len());
        let named = list(&shown);
        (shown.len() < highest).then(|| match self {
            Self::Shown => format!(
                "its objects are the ids {named} of the first mask; the official evaluator counts all from 1 to {highest}"
            ),
            Self::Official => format!(
                "all ids from 1 to {highest} count as objects, as for the official evaluator, but the first mask has {named} \
                 alone: the others score 1 while nothing is predicted for them"
            ),
        })
    }
}

/// The ids as a list in words.
fn list<'a>(ids: impl IntoIterator<Item = &'a u8>) -> String {
    ids.into_iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

/// A frame that has been evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done<'a> {
    /// Name of the current video.
    pub sequence: &'a str,
    /// Index of the video, counted from 0.
    pub index: usize,
    /// Number of videos.
    pub sequences: usize,
    /// Index of the frame, counted from 0.
    pub frame: usize,
    /// Frames of this video.
    pub frames: usize,
    /// The decided ids, at the size of the frame (or of its annotation, if it has one); for the first frame, the
    /// given ids.
    pub mask: Option<&'a Mask>,
}

/// The result of an evaluation.
#[derive(Debug)]
pub struct Evaluation {
    /// Scores of the videos that could be scored.
    pub report: DavisReport,
    /// Videos with too few annotations to be scored, because the first and the last are not scored.
    pub unscored: Vec<String>,
    /// Videos that could not be evaluated, and why.
    pub failures: Vec<(String, Error)>,
    /// Notes on a video: content that was not used, or ids that other programs count differently.
    pub notes: Vec<(String, String)>,
}

/// Evaluates `model` on `videos`; `watch` is called after every frame and can end the evaluation by an error.
///
/// Frames are read at the size of the protocol; the predicted ids are resized to the annotation before they are
/// scored. Labels are propagated through frames without a mask, which are not scored; of the frames with a mask, the
/// first (which is given) and the last do not count. At any time one frame and the tokens of the context frames are
/// in memory. If one video fails, the others are still scored.
///
/// # Errors
/// [`Error::Config`] for unusable settings or if there is no video, and the errors of `watch`.
pub fn evaluate(
    videos: &dyn VideoSource,
    model: &dyn DenseFeatures,
    protocol: &Protocol,
    watch: &mut dyn FnMut(Done<'_>) -> Result<(), Error>,
) -> Result<Evaluation, Error> {
    protocol.propagation.validate()?;
    if model.patch() == 0 {
        return Err(Error::Config { field: "patch", reason: "must be at least 1".into() });
    }
    over_sequences(videos, protocol.objects, |video, notes| {
        let patch = model.patch();
        let mut state: Option<(Propagator, usize, usize)> = None;
        let last = if protocol.all_masks { video.frames } else { video.frames.saturating_sub(1) };
        score(videos, video, last, notes, |frame, truth| {
            let (features, own) = tokens(videos, model, protocol.size, video.name, frame)?;
            let Features { tokens, grid_h, grid_w } = features;
            let mut mask = None;
            match &mut state {
                None => {
                    let seed = first_mask(video.first, grid_h, grid_w)?;
                    let contexts = protocol.propagation.n_last_frames.min(video.frames).saturating_add(1);
                    let held = (tokens.len() + seed.len()) as u64 * 4 * contexts as u64;
                    room::admit(held, "a smaller --n-last-frames or --scale-size")
                        .map_err(|reason| Error::Model(format!("holding {contexts} frames {reason}")))?;
                    let start = Propagator::new(&protocol.propagation, grid_h, grid_w, &tokens, &seed)?;
                    state = Some((start, grid_h, grid_w));
                }
                Some((_, h, w)) if (*h, *w) != (grid_h, grid_w) => {
                    let (expected, found) = (format!("{h} x {w}"), format!("{grid_h} x {grid_w}"));
                    return Err(Error::Shape { what: "grid of the frame", expected, found }.into());
                }
                Some((labels, ..)) => {
                    let soft = labels.step(&tokens)?;
                    if protocol.all_masks || truth.is_some() {
                        let (width, height) = truth.map_or(own, |t| (t.width, t.height));
                        mask = Some(decide(&soft, grid_h, grid_w, patch, width, height)?);
                    }
                }
            }
            let shown = if frame == 0 { Some(video.first) } else { mask.as_ref() };
            watch(video.done(frame, shown)).map_err(Stop::All)?;
            Ok(mask)
        })
    })
}

/// The baseline of the benchmark: the first mask, copied to every frame of its video.
///
/// # Errors
/// As [`evaluate`].
pub fn first_mask_copied(videos: &dyn VideoSource, objects: Objects) -> Result<Evaluation, Error> {
    over_sequences(videos, objects, |video, notes| {
        score(videos, video, video.frames.saturating_sub(1), notes, |_, truth| {
            let Some(truth) = truth else { return Ok(None) };
            let (width, height) = (truth.width, truth.height);
            let ids = pillow_nearest(&video.first.ids, video.first.width, video.first.height, width, height)?;
            Ok(Some(Mask { width, height, ids }))
        })
    })
}

/// One of the videos.
#[derive(Clone, Copy)]
struct Video<'a> {
    name: &'a str,
    first: &'a Mask,
    objects: Objects,
    index: usize,
    sequences: usize,
    frames: usize,
}

impl<'a> Video<'a> {
    fn done(self, frame: usize, mask: Option<&'a Mask>) -> Done<'a> {
        let Self { name: sequence, index, sequences, frames, .. } = self;
        Done { sequence, index, sequences, frame, frames, mask }
    }
}

/// The extent of what an error ends.
enum Stop {
    /// The current video.
    Video(Error),
    /// The whole evaluation.
    All(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(e: E) -> Self {
        Self::Video(e.into())
    }
}

/// Runs `scored` on every video.
fn over_sequences(
    videos: &dyn VideoSource,
    objects: Objects,
    mut scored: impl FnMut(Video, &mut Vec<String>) -> Result<Option<SequenceReport>, Stop>,
) -> Result<Evaluation, Error> {
    let names = videos.sequences();
    if names.is_empty() {
        return Err(Error::Config { field: "videos", reason: "there is no sequence".into() });
    }
    let sequences = names.len();
    let (mut scores, mut unscored, mut failures, mut notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (index, name) in names.into_iter().enumerate() {
        let mut said = Vec::new();
        let mut run = || {
            let fail = |reason: &str| Error::Sequence { sequence: name.clone(), reason: reason.into() };
            let frames = videos.frames(&name)?;
            let first = videos.mask(&name, 0).map_err(|e| at(&name, 0, e.into()))?;
            let first = first.ok_or_else(|| fail("the first frame needs a mask"))?;
            if object_ids(&first).is_empty() {
                return Err(fail("the first mask shows no object, so there is nothing to follow").into());
            }
            said.extend(videos.notes(&name)?);
            said.extend(objects.note(&first));
            scored(Video { name: &name, first: &first, objects, index, sequences, frames }, &mut said)
        };
        let outcome = run();
        // Missing frames are already an error.
        said.extend(videos.left_out(&name).unwrap_or_default());
        notes.extend(said.into_iter().map(|note| (name.clone(), note)));
        match outcome {
            Ok(Some(report)) => scores.push((name, report)),
            Ok(None) => unscored.push(name),
            Err(Stop::Video(e)) => failures.push((name, e)),
            Err(Stop::All(e)) => return Err(e),
        }
    }
    Ok(Evaluation { report: DavisReport::of(scores), unscored, failures, notes })
}

/// Asks `predict` for the ids of the frames up to `end`, in order and with the annotation of frames that are scored,
/// and scores the ids that it returns. `None` if there are too few annotations. Ids that appear after the first frame
/// are reported in `notes`.
fn score(
    videos: &dyn VideoSource,
    video: Video,
    end: usize,
    notes: &mut Vec<String>,
    mut predict: impl FnMut(usize, Option<&Mask>) -> Result<Option<Mask>, Stop>,
) -> Result<Option<SequenceReport>, Stop> {
    let annotation = |frame| videos.mask(video.name, frame).map_err(|e| at(video.name, frame, e.into()));
    let within = |frame, stop| match stop {
        Stop::Video(e) => Stop::Video(at(video.name, frame, e)),
        all => all,
    };
    let mut tally = SequenceTally::new(video.objects.of(video.first));
    let mut names = Vec::new();
    // The last frame that has a mask is not scored; which one that is shows in the end, unless it is the
    // last of all.
    let last_is_dropped = video.frames > 1 && annotation(video.frames - 1)?.is_some();
    for frame in 0..end {
        let is_last = frame + 1 == video.frames;
        let truth = if frame == 0 || is_last { None } else { annotation(frame)? };
        let guess = predict(frame, truth.as_ref()).map_err(|e| within(frame, e))?;
        if let Some((truth, guess)) = truth.zip(guess) {
            tally.push(&truth, &guess).map_err(|e| at(video.name, frame, e))?;
            names.push(videos.frame_name(video.name, frame)?);
        }
    }
    if !last_is_dropped {
        tally.drop_last();
        names.pop();
    }
    let [later, _] = tally.others();
    if !later.is_empty() {
        notes.push(format!("the ids {} appear after the first frame and are not scored", list(later)));
    }
    Ok((tally.frames() > 0).then(|| SequenceReport::of(names, tally.ids(), tally.values())))
}

/// Tokens and grid of one frame, and the size of the frame.
fn tokens(
    videos: &dyn VideoSource,
    model: &dyn DenseFeatures,
    size: FrameSize,
    sequence: &str,
    frame: usize,
) -> Result<(Features, (usize, usize)), Error> {
    let picture = videos.frame(sequence, frame)?;
    let patch = model.patch();
    let (width, height) = size.of(picture.width, picture.height, patch)?;
    let pixels = normalise(&cv_linear(&picture, width, height)?);
    let features = model.features(&pixels, height, width)?;
    let (grid_h, grid_w) = (features.grid_h, features.grid_w);
    let expected = (height / patch, width / patch);
    if (grid_h, grid_w) != expected {
        let expected = format!("{} x {}", expected.0, expected.1);
        return Err(Error::shape("grid of the model", expected, format!("{grid_h} x {grid_w}")));
    }
    Ok((features, (picture.width, picture.height)))
}

fn at(sequence: &str, frame: usize, source: Error) -> Error {
    Error::Frame { sequence: sequence.into(), frame, source: Box::new(source) }
}

#[cfg(test)]
mod tests;
