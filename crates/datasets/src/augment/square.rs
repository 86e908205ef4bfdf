//! One view of each image, for tasks that know what is on it.

use super::drawn::Drawn;
use super::resize::Filter;
use super::{Picture, crop};
use crate::random::{Purpose, coin, stream};
use crate::recipe::{Key, Recipe, place, samples};
use crate::{Decoding, Error, Samples};

/// A random window of the image as a square, mirrored or not: torchvision's `RandomResizedCrop(size)` (8 % to all of the
/// area, sides of 3:4 to 4:3, bilinear) and `RandomHorizontalFlip`, with which classifiers are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Square {
    /// Side in pixels.
    pub size: usize,
}

/// Least and greatest part of the area.
const SCALE: [f32; 2] = [0.08, 1.];
/// Least and greatest width over height.
const RATIO: [f32; 2] = [3. / 4., 4. / 3.];

impl Recipe for Square {
    type Views = Samples;
    /// Pixels `[B, C, size, size]`.
    type Batch = Samples;

    fn check(&self, _decoding: &Decoding) -> Result<(), Error> {
        match self.size {
            1..=4096 => Ok(()),
            size => Err(Error::Config { field: "size", reason: format!("must be 1 to 4096 pixels, is {size}") }),
        }
    }

    fn values(&self) -> f64 {
        (self.size as f64).powi(2)
    }

    fn views(&self, picture: &Picture, key: &Key) -> Samples {
        let mut rng = stream(key.seed, Purpose::Crop, key.epoch, key.id);
        let (width, height, _) = picture.shape();
        let window = crop::draw((width, height), SCALE, RATIO, &mut rng);
        let flip = coin(&mut rng, 0.5);
        picture.view(&Drawn { window, size: self.size, filter: Filter::Bilinear, flip, ops: Vec::new() })
    }

    fn empty(&self, images: usize, decoding: &Decoding) -> Samples {
        samples(decoding, images * decoding.channels * self.size * self.size)
    }

    fn put(&self, batch: &mut Samples, slot: usize, _images: usize, views: Samples) {
        place(batch, slot * views.len(), &views);
    }
}
