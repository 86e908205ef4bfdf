//! Which samples of a step are whose.

use crate::Communicator;

/// The part of a global batch that one process has: `images` images from number `rank * images` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The number of the process.
    pub rank: usize,
    /// How many processes there are.
    pub world: usize,
    /// Images of each process.
    pub images: usize,
}

impl Share {
    /// The share of this process, where each process has so many images.
    pub fn of(communicator: &dyn Communicator, images: usize) -> Self {
        Self { rank: communicator.rank(), world: communicator.world(), images }
    }

    /// Images of all processes.
    pub fn all(&self) -> usize {
        self.world * self.images
    }

    /// The places of this process's images among all.
    pub fn own(&self) -> std::ops::Range<usize> {
        self.rank * self.images..(self.rank + 1) * self.images
    }
}
