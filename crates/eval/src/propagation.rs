//! Label propagation: each token of a new frame takes the labels of its most similar tokens in
//! the first and the last few frames.
//!
//! Follows the reference's `label_propagation` and the loop around it:
//!
//! 1. affinity `exp(cos / temperature)` of the target token with every context token whose row and
//!    column differ by at most the radius (a square window, cut off at the border);
//! 2. of all context frames together only the `top_k` largest stay, and everything equal to the
//!    last of them;
//! 3. those are normalised to sum 1 and weigh the soft masks of their tokens.
//!
//! Where the reference multiplies whole frames with each other and masks the product, this
//! computes only what lies in the window: memory is that of the kept frames, plus, per thread,
//! the affinities of three rows of tokens.

mod context;
mod kernel;
mod vote;

use crate::Error;
use context::Context;
use rayon::prelude::*;
use std::collections::VecDeque;
use vote::{ROWS, Scratch, Vote};

/// Settings of the propagation. The default is the reference's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Propagation {
    /// Preceding frames that vote beside the first one; 0 leaves the first alone.
    pub n_last_frames: usize,
    /// Radius of the window in tokens, 12 being a window of 25 x 25; 0 means the whole frame.
    pub neighbourhood: usize,
    /// Context tokens that vote per target token, ties with the last one not counted.
    pub top_k: usize,
    /// Divisor of the cosine in the exponent.
    pub temperature: f32,
}

impl Default for Propagation {
    fn default() -> Self {
        Self {
            n_last_frames: 7,  // reference: --n_last_frames
            neighbourhood: 12, // reference: --size_mask_neighborhood
            top_k: 5,          // reference: --topk
            temperature: 0.1,  // reference: label_propagation, exp(aff / 0.1)
        }
    }
}

/// Below this, `exp(1 / temperature)` summed over a frame leaves the range of `f32`.
const COLDEST: f32 = 0.0125;

impl Propagation {
    /// Checks that the settings can be used.
    ///
    /// # Errors
    /// [`Error::Config`] if `top_k` is 0 or the temperature is not a number of at least 0.0125.
    pub fn validate(&self) -> Result<(), Error> {
        if self.top_k == 0 {
            return Err(Error::Config {
                field: "top_k",
                reason: "0 tokens cannot vote; use at least 1 (the reference uses 5)".into(),
            });
        }
        if !self.temperature.is_finite() || self.temperature < COLDEST {
            return Err(Error::Config {
                field: "temperature",
                reason: format!(
                    "{} is not a finite number of at least {COLDEST} (the reference uses 0.1)",
                    self.temperature
                ),
            });
        }
        Ok(())
    }
}

/// The labels of one video on their way through it, frame by frame.
pub struct Propagator {
    settings: Propagation,
    height: usize,
    width: usize,
    first: Context,
    last: VecDeque<Context>,
}

impl Propagator {
    /// Starts a video.
    ///
    /// `features` are the first frame's tokens `[height * width, D]`, row by row and not
    /// normalised; `mask` is its soft mask `[C, height, width]`, see
    /// [`first_mask`](crate::frames::first_mask). `D` and `C` follow from the lengths.
    ///
    /// # Errors
    /// [`Error::Config`] for unusable settings, [`Error::Shape`] or [`Error::NotFinite`] for
    /// unusable arrays.
    pub fn new(
        settings: &Propagation,
        height: usize,
        width: usize,
        features: &[f32],
        mask: &[f32],
    ) -> Result<Self, Error> {
        settings.validate()?;
        let mut first = Context::new((height, width), features)?;
        first.label(mask)?;
        Ok(Self { settings: *settings, height, width, first, last: VecDeque::new() })
    }

    /// Number of mask channels `C`.
    pub fn classes(&self) -> usize {
        self.first.classes()
    }

    /// Labels the next frame from its tokens `[height * width, D]` (not normalised) and keeps it
    /// as context for the frames after it. Returns its soft mask `[C, height, width]`, which sums
    /// to 1 over `C` wherever the first mask did.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::NotFinite`] if the features do not fit the first frame's.
    pub fn step(&mut self, features: &[f32]) -> Result<Vec<f32>, Error> {
        let area = self.height * self.width;
        let mut target = Context::new((self.height, self.width), features)?;
        if target.dim() != self.first.dim() {
            return Err(Error::shape("feature dimension", self.first.dim(), target.dim()));
        }
        let classes = self.classes();
        let vote = Vote {
            settings: self.settings,
            width: self.width,
            contexts: std::iter::once(&self.first).chain(&self.last).collect(),
            target: &target,
        };
        let mut votes = vec![0.0; area * classes];
        votes
            .par_chunks_mut(ROWS * self.width * classes)
            .enumerate()
            .for_each_init(Scratch::default, |scratch, (band, votes)| vote.rows(scratch, band * ROWS, votes));

        let mut soft = Vec::with_capacity(votes.len());
        for class in 0..classes {
            soft.extend(votes.iter().skip(class).step_by(classes));
        }
        target.adopt(votes, classes);
        if self.settings.n_last_frames > 0 {
            if self.last.len() == self.settings.n_last_frames {
                self.last.pop_front();
            }
            self.last.push_back(target);
        }
        Ok(soft)
    }
}

#[cfg(test)]
mod tests;
