//! How images become what a step takes.

use crate::augment::Picture;
use crate::{Decoding, Error, Samples};

/// How images become what a step takes: which views of an image there are, and how those of several images lie in a batch.
pub trait Recipe: Clone + Send + Sync + 'static {
    /// What one image yields.
    type Views: Send;
    /// What several images yield.
    type Batch: Default + Send;

    /// Refuses settings that yield nothing, or that need other images than `decoding` gives.
    ///
    /// # Errors
    /// The field, and what it must be.
    fn check(&self, decoding: &Decoding) -> Result<(), Error>;

    /// Values of one channel that an image yields.
    fn values(&self) -> f64;

    /// The views of a picture; everything random about them follows from `key`.
    fn views(&self, picture: &Picture, key: &Key) -> Self::Views;

    /// A batch of `images` images, still black.
    fn empty(&self, images: usize, decoding: &Decoding) -> Self::Batch;

    /// Copies the views of an image to the place `slot` in a batch of `images` images.
    fn put(&self, batch: &mut Self::Batch, slot: usize, images: usize, views: Self::Views);
}

/// What the random numbers of an image's views are named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The seed of the run.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// The image ([`ImageSource::id`](crate::ImageSource::id)).
    pub id: u64,
}

/// So many values of the kind that `decoding` gives, all 0.
pub(crate) fn samples(decoding: &Decoding, count: usize) -> Samples {
    match &decoding.range {
        None => Samples::Bytes(vec![0; count]),
        Some(_) => Samples::Floats(vec![0.; count]),
    }
}

/// Copies values to the place `at`.
pub(crate) fn place(to: &mut Samples, at: usize, from: &Samples) {
    match (to, from) {
        (Samples::Bytes(to), Samples::Bytes(from)) => to[at..at + from.len()].copy_from_slice(from),
        (Samples::Floats(to), Samples::Floats(from)) => to[at..at + from.len()].copy_from_slice(from),
        // `Decoding` makes one kind only.
        _ => {}
    }
}
