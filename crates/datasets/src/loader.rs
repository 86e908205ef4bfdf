//! Batches of views, prepared ahead by threads, always the same for the same seed.
//!
//! A batch is a function of (seed, epoch, step): the order of an epoch and the views of a sample
//! are drawn from streams of their own, so neither the number of threads nor the step at which
//! an epoch is resumed changes any byte.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::{Faults, LoaderConfig};
use crate::batches::{Batches, Job, Known};
use crate::decode::Seen;
use crate::random::{Purpose, shuffle, stream};
use crate::{Decoding, Error, ImageSource, MultiCrop, Recipe, Tally};

/// Bytes of the batches that a loader of these settings holds; the greatest number for what is beyond.
pub fn batch_memory(recipe: &impl Recipe, decoding: &Decoding, config: &LoaderConfig) -> u64 {
    let number = |n: usize| n as f64;
    let width = if decoding.range.is_some() { 4. } else { 1. };
    let batches = number(config.ahead.max(1)) + 1.;
    (recipe.values() * number(decoding.channels) * width * number(config.batch) * batches) as u64
}

/// Makes the batches of an epoch from a source of images.
pub struct Loader<R = MultiCrop> {
    source: Arc<dyn ImageSource>,
    recipe: R,
    decoding: Decoding,
    config: LoaderConfig,
    /// What was found until now.
    faults: Arc<Mutex<Faults>>,
    /// What was left out of samples.
    seen: Arc<Mutex<Seen>>,
}

impl<R: Recipe> Loader<R> {
    /// A loader of views of the images of `source`.
    ///
    /// Refuses an empty batch, fewer images than one batch of all processes, and a recipe that [`Recipe::check`] refuses.
    pub fn new(
        source: Arc<dyn ImageSource>,
        recipe: R,
        decoding: Decoding,
        mut config: LoaderConfig,
    ) -> Result<Self, Error> {
        let fail = |field, reason| Err(Error::Config { field, reason });
        let together = config.batch.saturating_mul(config.world);
        if config.batch == 0 {
            return fail("batch_size", "must be at least 1".into());
        }
        if config.rank >= config.world {
            return fail("rank", format!("must be below the number of processes {}, is {}", config.world, config.rank));
        }
        if !config.drop_last && config.world > 1 {
            return fail("drop_last", "several processes need batches of one size".into());
        }
        if together > source.len() {
            return fail("batch_size", format!("the data has {} images but a batch needs {together}", source.len()));
        }
        if !(0.0..=1.0).contains(&config.max_bad) {
            return fail("max_bad", format!("must be between 0 and 1, is {}", config.max_bad));
        }
        recipe.check(&decoding)?;
        if config.threads == 0 {
            config.threads = std::thread::available_parallelism().map_or(1, usize::from);
        }
        Ok(Self { source, recipe, decoding, config, faults: Arc::default(), seen: Arc::default() })
    }

    /// Batches in an epoch. Images that do not fill a last one wait for the next epoch, or make a smaller
    /// one without `drop_last`.
    pub fn steps_per_epoch(&self) -> usize {
        let together = self.config.batch * self.config.world;
        if self.config.drop_last { self.source.len() / together } else { self.source.len().div_ceil(together) }
    }

    /// Images that all batches of an epoch hold, of all processes.
    pub fn images_per_epoch(&self) -> usize {
        (self.steps_per_epoch() * self.config.batch * self.config.world).min(self.source.len())
    }

    /// Every image once, in the order of `epoch`.
    pub fn epoch_order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.source.len()).collect();
        shuffle(&mut stream(self.config.seed, Purpose::Order, epoch, 0), &mut order);
        order
    }

    /// Bytes that batches in preparation and the one in use hold. Each thread needs one decoded image and
    /// its views besides.
    pub fn memory(&self) -> usize {
        usize::try_from(batch_memory(&self.recipe, &self.decoding, &self.config)).unwrap_or(usize::MAX)
    }

    /// The batches of `epoch` from step `first_step` on.
    ///
    /// Threads start at once and stay at most `ahead` batches ahead; dropping the iterator stops them.
    /// An image that cannot be used is named in its batch and replaced by another; when there are more
    /// of them than `max_bad` allows, the batch is an error and the last one.
    pub fn epoch(&self, epoch: u64, first_step: usize) -> Batches<R> {
        let job = Job {
            source: Arc::clone(&self.source),
            recipe: self.recipe.clone(),
            decoding: self.decoding.clone(),
            config: self.config,
            epoch,
            order: self.epoch_order(epoch),
        };
        let known = Known { faults: Arc::clone(&self.faults), seen: Arc::clone(&self.seen) };
        Batches::start(job, first_step..self.steps_per_epoch(), known)
    }

    /// Images of the source.
    pub fn images(&self) -> usize {
        self.source.len()
    }

    /// The name of an image of a batch.
    pub fn name(&self, id: usize) -> String {
        self.source.name(id)
    }

    /// What was left out of the images of the batches until now, each image counted once.
    pub fn tally(&self) -> Tally {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).tally().clone()
    }

    /// Names of the images that could not be used until now, and why.
    pub fn bad(&self) -> BTreeMap<String, String> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.iter().filter(|(_, (_, bad))| *bad).map(|(name, (reason, _))| (name.clone(), reason.clone())).collect()
    }
}
