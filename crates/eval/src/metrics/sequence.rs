//! The scores of the objects of one video.

use super::{Region, Statistics, boundary_f, region_similarity, statistics};
use crate::{Error, VOID};
use rayon::prelude::*;
use selfpatch_datasets::Mask;

/// Both measures of one object over the scored frames of its video.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ObjectScore {
    /// Region similarity.
    pub j: Statistics,
    /// Boundary accuracy.
    pub f: Statistics,
}

/// The scores of every object of one video.
#[derive(Clone, Debug, PartialEq)]
pub struct SequenceScore {
    /// In the order of their ids, from 1.
    pub objects: Vec<ObjectScore>,
}

/// Number of objects of a video: the highest id in its first mask, [`VOID`] left out. An id that
/// is skipped counts as an object, as in DAVIS; it scores 1 while it is not predicted.
pub fn object_count(first: &Mask) -> usize {
    first.ids.iter().filter(|&&id| id != VOID).max().map_or(0, |&id| usize::from(id))
}

/// Collects the values of one video frame by frame.
#[derive(Clone, Debug)]
pub struct SequenceTally {
    /// `(J, F)` per frame, one list per object.
    objects: Vec<Vec<(f64, f64)>>,
}

impl SequenceTally {
    /// A video with objects 1 to `objects`, see [`object_count`].
    pub fn new(objects: usize) -> Self {
        Self { objects: vec![Vec::new(); objects] }
    }

    /// Scores one frame. Pixels that `truth` marks as [`VOID`] belong to no region; ids of `guess`
    /// beyond the number of objects are ignored.
    ///
    /// # Errors
    /// [`Error::Shape`] if the masks are not filled or their sizes differ.
    pub fn push(&mut self, truth: &Mask, guess: &Mask) -> Result<(), Error> {
        let values = self.objects.par_iter().zip(1_u8..VOID).map(|(_, id)| {
            let expected = Region::of(truth, id)?;
            let kept = |(&guess, &truth)| guess == id && truth != VOID;
            let inside = guess.ids.iter().zip(&truth.ids).map(kept).collect();
            let found = Region::new(guess.width, guess.height, inside)?;
            Ok((region_similarity(&expected, &found)?, boundary_f(&expected, &found)?))
        });
        let values = values.collect::<Result<Vec<_>, Error>>()?;
        for (object, value) in self.objects.iter_mut().zip(values) {
            object.push(value);
        }
        Ok(())
    }

    /// Number of frames scored so far.
    pub fn frames(&self) -> usize {
        self.objects.first().map_or(0, Vec::len)
    }

    /// Takes the last scored frame back.
    pub fn drop_last(&mut self) {
        for object in &mut self.objects {
            object.pop();
        }
    }

    /// `(J, F)` of every scored frame, one list per object.
    pub fn values(&self) -> &[Vec<(f64, f64)>] {
        &self.objects
    }

    /// Reduces the values to the scores of the objects.
    pub fn finish(&self) -> SequenceScore {
        let object = |values: &Vec<(f64, f64)>| {
            let (j, f): (Vec<f64>, Vec<f64>) = values.iter().copied().unzip();
            ObjectScore { j: statistics(&j), f: statistics(&f) }
        };
        SequenceScore { objects: self.objects.iter().map(object).collect() }
    }
}
