//! Frames with masks drawn over them.

use super::super::overlay::{blend, fitted, spread};
use super::super::run::{Run, Sequence};
use super::chart;
use super::words::{letter, percent};
use crate::error::Error;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use selfpatch_datasets::{Mask, Rgb, VideoSource, decode_mask};
use selfpatch_figures::escape;

/// JPEG quality of the pictures.
const QUALITY: u8 = 80;
/// Columns of the pictures of bad frames.
const WIDTH: u32 = 400;
/// Sequences of which bad frames are shown, and how many of each.
const WORST: (usize, usize) = (6, 3);
/// Sequences with a filmstrip.
pub const STRIPS: usize = 30;
/// Pictures of a filmstrip.
const FRAMES: usize = 5;

/// Where pictures come from.
pub struct Album<'a> {
    runs: &'a [Run],
    videos: &'a dyn VideoSource,
    sequences: &'a [Sequence<'a>],
}

/// A frame that is shown.
struct Bad<'a> {
    sequence: &'a Sequence<'a>,
    frame: usize,
    /// Mean J&F over the objects in each run, NaN where it was not scored.
    values: Vec<f64>,
}

impl<'a> Album<'a> {
    /// Pictures of `sequences`, with masks from the folders of `runs`.
    pub fn new(runs: &'a [Run], videos: &'a dyn VideoSource, sequences: &'a [Sequence<'a>]) -> Self {
        Self { runs, videos, sequences }
    }

    /// The worst frames of the worst sequences, beside the truth.
    pub fn worst(&self) -> Result<String, Error> {
        let mut ranked: Vec<(f64, Vec<Bad>)> = self.sequences.iter().filter_map(bad).collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut html = String::new();
        for bad in ranked.iter().take(WORST.0).flat_map(|(_, frames)| frames) {
            let name = &bad.sequence.frames[bad.frame];
            let frame = self.frame(bad.sequence, bad.frame, WIDTH);
            let truth = self.videos.mask(bad.sequence.name, bad.frame).map_err(Into::into);
            let mut row = self.figure(bad.sequence, &frame, truth, "ground truth", name)?;
            for (run, value) in bad.values.iter().enumerate() {
                let which = if self.runs.len() > 1 { format!("{}, ", letter(run)) } else { String::new() };
                let caption = format!("{which}J&F {}", percent(*value));
                row += &self.figure(bad.sequence, &frame, self.mask(run, bad.sequence, bad.frame), &caption, name)?;
            }
            let title = format!("{} · {name}", bad.sequence.name);
            html += &format!("<section><h3>{}</h3><div class=row>{row}</div></section>", escape(&title));
        }
        if html.is_empty() {
            return Ok(html);
        }
        let over = if self.runs.len() > 1 { " and runs" } else { "" };
        Ok(format!(
            "<h2>Worst frames</h2><p class=dim>Lowest mean J&amp;F over objects{over}, some frames apart, in the {} worst \
             sequences at most.</p><div class=worst style=\"--pictures:{}\">{html}</div>",
            WORST.0,
            self.runs.len() + 1
        ))
    }

    /// A filmstrip of sequence `number` for every run; nothing from [`STRIPS`] on.
    pub fn strips(&self, number: usize) -> Result<String, Error> {
        let sequence = &self.sequences[number];
        if number >= STRIPS || sequence.frames.is_empty() {
            return Ok(String::new());
        }
        let strips = (self.sequences.len().min(STRIPS) * self.runs.len()) as f64;
        // The pictures of all strips share a number of pixels, so that a page of many stays small.
        let width = (240.0 * (20.0 / strips).sqrt()).clamp(96.0, 240.0) as u32;
        let mut shown = vec![String::new(); self.runs.len()];
        for index in spread(sequence.frames.len(), FRAMES) {
            let (frame, name) = (self.frame(sequence, index, width), &sequence.frames[index]);
            for (run, html) in shown.iter_mut().enumerate() {
                let caption = if self.runs.len() > 1 { format!("{}, {name}", letter(run)) } else { name.clone() };
                *html += &self.figure(sequence, &frame, self.mask(run, sequence, index), &caption, name)?;
            }
        }
        let strips = shown.iter().filter(|s| !s.is_empty()).map(|s| format!("<div class=strip>{s}</div>"));
        Ok(strips.collect())
    }

    fn frame(&self, sequence: &Sequence, index: usize, width: u32) -> Result<Rgb, Error> {
        Ok(fitted(self.videos.frame(sequence.name, index)?, width))
    }

    /// The mask that a run has of a frame, if any.
    fn mask(&self, run: usize, sequence: &Sequence, index: usize) -> Result<Option<Mask>, Error> {
        let folder = self.runs[run].folder.join("masks").join(sequence.name);
        let path = folder.join(format!("{}.png", sequence.frames[index]));
        Ok(if path.is_file() { Some(decode_mask(&path)?) } else { None })
    }

    /// `frame` under `mask`, or why it cannot be shown: other scores are worth a page even then. Nothing
    /// where there is no mask.
    fn figure(
        &self,
        sequence: &Sequence,
        frame: &Result<Rgb, Error>,
        mask: Result<Option<Mask>, Error>,
        caption: &str,
        name: &str,
    ) -> Result<String, Error> {
        let shown = match (frame, mask) {
            (_, Ok(None)) => return Ok(String::new()),
            (Err(e), _) => format!("<p class=dim>{}</p>", escape(&e.to_string())),
            (_, Err(e)) => format!("<p class=dim>{}</p>", escape(&e.to_string())),
            (Ok(frame), Ok(Some(mask))) => {
                let picture = blend(frame, &mask, self.videos.palette(sequence.name)?.as_deref());
                let mut jpeg = Vec::new();
                JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&picture).map_err(|e| {
                    Error::Sequence { sequence: sequence.name.into(), reason: format!("frame {name}: {e}") }
                })?;
                let (width, height) = picture.dimensions();
                let alt = escape(&format!("{}, frame {name}, {caption}", sequence.name));
                let data = STANDARD.encode(jpeg);
                format!(r#"<img width="{width}" height="{height}" alt="{alt}" src="data:image/jpeg;base64,{data}">"#)
            }
        };
        Ok(format!("<figure>{shown}<figcaption>{}</figcaption></figure>", escape(caption)))
    }
}

/// How bad a sequence is and its worst frames, in their order; nothing without frames or scores.
fn bad<'a>(sequence: &'a Sequence<'a>) -> Option<(f64, Vec<Bad<'a>>)> {
    let runs = sequence.reports.len();
    let mut values = vec![vec![f64::NAN; runs]; sequence.frames.len()];
    for (run, report) in sequence.reports.iter().enumerate() {
        let Some(report) = report else { continue };
        for (name, (j, f)) in report.frames.iter().zip(chart::means(report)) {
            if let Some(index) = sequence.index(name) {
                values[index][run] = (j + f) / 2.0;
            }
        }
    }
    let mut frames: Vec<(f64, usize)> =
        values.iter().enumerate().filter_map(|(frame, values)| Some((mean(values)?, frame))).collect();
    let badness = mean(&frames.iter().map(|f| f.0).collect::<Vec<_>>())?;
    frames.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Neighbours look alike.
    let apart = (sequence.frames.len() / 8).max(1);
    let mut picked: Vec<usize> = Vec::new();
    for (_, frame) in frames {
        if picked.len() < WORST.1 && picked.iter().all(|p| p.abs_diff(frame) >= apart) {
            picked.push(frame);
        }
    }
    picked.sort_unstable();
    let bad = picked.into_iter().map(|frame| Bad { sequence, frame, values: values[frame].clone() });
    Some((badness, bad.collect()))
}

/// Mean of the finite values, if there are any.
fn mean(values: &[f64]) -> Option<f64> {
    let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    (!finite.is_empty()).then(|| finite.iter().sum::<f64>() / finite.len() as f64)
}
