//! Label propagation: each token of a new frame takes the labels of its most similar tokens in
//! the first and the last few frames.
//!
//! Follows the reference's `label_propagation` and the loop around it:
//!
//! 1. affinity `exp(cos / temperature)` of the target token with every context token whose row and column differ by
//!    at most the radius (a square window, clipped at the border);
//! 2. over all context frames together only the `top_k` largest are kept, and all that equal the last of them;
//! 3. these are normalised to sum 1 and weight the soft masks of their tokens.
//!
//! Where the reference multiplies whole frames with each other and masks the product, this computes only affinities
//! within the window: memory is that of the kept frames, plus, per thread, the affinities of three rows of tokens.

mod context;
mod kernel;
mod settings;
mod vote;

use crate::Error;
use context::Context;
use rayon::prelude::*;
pub use settings::Propagation;
use std::collections::VecDeque;
use vote::{ROWS, Scratch, Vote};

/// Propagates the labels of one video, frame by frame.
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
    /// [`Error::Shape`] if the features differ in shape from the first frame's, [`Error::NotFinite`] if they are
    /// non-finite.
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
