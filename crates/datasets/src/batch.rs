//! A batch, what is wrong with its samples, and how batches are made.

use crate::Pillow;
use std::collections::BTreeMap;

/// What a recipe makes of some images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch<V> {
    /// Indices of the images in their source.
    pub ids: Vec<usize>,
    /// What the recipe made of them, such as [`Crops`](crate::Crops).
    pub views: V,
    /// What is wrong with samples of this batch.
    pub faults: Vec<Fault>,
}

impl<V> Batch<V> {
    /// Number of images, B.
    pub fn images(&self) -> usize {
        self.ids.len()
    }
}

/// Something wrong with a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The sample's name in the source.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
    /// Whether it could not be used, so that another sample took its place. If not, its name promises
    /// another format than it has.
    pub bad: bool,
    /// Whether this loader meets it for the first time.
    pub first: bool,
}

/// Faults by the names of the samples: the reason, and whether the sample is bad.
pub(crate) type Faults = BTreeMap<String, (String, bool)>;

/// How batches are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoaderConfig {
    /// Images per batch.
    pub batch: usize,
    /// Seed of order and crops.
    pub seed: u64,
    /// Threads that read, decode and augment; 0 for one per core.
    pub threads: usize,
    /// Batches in preparation while the caller works on another; at least 1.
    pub ahead: usize,
    /// Leave out the images that do not fill a last batch; otherwise that batch is smaller.
    pub drop_last: bool,
    /// Greatest part of the images that may be bad before a batch becomes an error.
    pub max_bad: f64,
    /// This process among `world`, from 0: each makes its own part of every global batch.
    pub rank: usize,
    /// Number of processes that share the data.
    pub world: usize,
    /// Whose order of passes resizing follows.
    pub pillow: Pillow,
}

impl LoaderConfig {
    /// One process, one thread per core, two batches ahead, whole batches only, 1 % of bad images.
    pub fn new(batch: usize, seed: u64) -> Self {
        Self {
            batch,
            seed,
            threads: 0,
            ahead: 2,
            drop_last: true,
            max_bad: 0.01,
            rank: 0,
            world: 1,
            pillow: Pillow::V12,
        }
    }
}
