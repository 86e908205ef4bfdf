//! Batches of views, prepared ahead by threads, always the same for the same seed.
//!
//! A batch is a function of (seed, epoch, step): the order of an epoch and the views of a sample
//! are drawn from streams of their own, so neither the number of threads nor the step at which
//! an epoch is resumed changes any byte.

use std::sync::Arc;

use crate::batches::{Batches, Job};
use crate::random::{Purpose, shuffle, stream};
use crate::{Error, ImageSource, MultiCrop};

/// Views of a number of images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Indices of the images in their source.
    pub ids: Vec<usize>,
    /// `[G * B, 3, S, S]`: the first global view of every image, then the second of every image.
    pub globals: Vec<u8>,
    /// `[L * B, 3, s, s]` likewise, empty without local views.
    pub locals: Vec<u8>,
    /// Number of images, B.
    pub batch: usize,
}

/// Makes the batches of an epoch from a source of images.
pub struct Loader {
    source: Arc<dyn ImageSource>,
    crops: MultiCrop,
    batch: usize,
    seed: u64,
    threads: usize,
}

impl Loader {
    /// A loader of `batch` images at a time with `threads` threads, 0 for one per core.
    ///
    /// Refuses an empty batch, fewer images than one batch, and settings that
    /// [`MultiCrop::validate`] refuses.
    pub fn new(
        source: Arc<dyn ImageSource>,
        crops: MultiCrop,
        batch: usize,
        seed: u64,
        threads: usize,
    ) -> Result<Self, Error> {
        let fail = |reason| Err(Error::Config { field: "batch_size", reason });
        if batch == 0 {
            return fail("must be at least 1".into());
        }
        if batch > source.len() {
            return fail(format!("the data has {} images but a batch needs {batch}", source.len()));
        }
        crops.validate()?;
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        Ok(Self { source, crops, batch, seed, threads })
    }

    /// Whole batches in an epoch; images that do not fill a last batch wait for the next epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.source.len() / self.batch
    }

    /// Every image once, in the order of `epoch`.
    pub fn epoch_order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.source.len()).collect();
        shuffle(&mut stream(self.seed, Purpose::Order, epoch, 0), &mut order);
        order
    }

    /// The batches of `epoch` from step `first_step` on.
    ///
    /// Threads start at once and stay at most two batches ahead; dropping the iterator stops
    /// them. A batch with an image that cannot be loaded is an error in its place, and the
    /// batches behind it still follow.
    pub fn epoch(&self, epoch: u64, first_step: usize) -> Batches {
        let job = Job {
            source: Arc::clone(&self.source),
            crops: self.crops.clone(),
            batch: self.batch,
            seed: self.seed,
            epoch,
            order: self.epoch_order(epoch),
        };
        Batches::start(job, first_step..self.steps_per_epoch(), self.threads)
    }
}
