//! The scores of the objects of one video.

use super::{Region, Statistics, boundary_f, region_similarity};
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::statistics;

    fn mask(rows: &[&str]) -> Mask {
        let id = |b: u8| if b == b'?' { VOID } else { b - b'0' };
        Mask { width: rows[0].len(), height: rows.len(), ids: rows.concat().bytes().map(id).collect() }
    }

    #[test]
    fn void_pixels_do_not_count() {
        let truth = mask(&["1100?", "1100?", "00000", "22200"]);
        assert_eq!(object_count(&truth), 2);
        let mut tally = SequenceTally::new(2);
        tally.push(&truth, &mask(&["11001", "11002", "00000", "22000"])).unwrap();
        assert_eq!(tally.values()[0], [(1.0, 1.0)]);
        assert_eq!(tally.values()[1][0].0, 2.0 / 3.0);
        assert!(tally.push(&truth, &mask(&["1100", "1100"])).is_err());
        assert_eq!(tally.frames(), 1);
    }

    #[test]
    fn frames_are_reduced_per_object() {
        let mut tally = SequenceTally::new(1);
        let truth = mask(&["110", "110"]);
        for guess in [["110", "110"], ["100", "100"], ["000", "000"]] {
            tally.push(&truth, &mask(&guess)).unwrap();
        }
        let j = |tally: &SequenceTally| statistics(&tally.values()[0].iter().map(|v| v.0).collect::<Vec<_>>());
        // Three frames make the bins of frames 0 and 1, and of frame 2 alone.
        let score = j(&tally);
        assert_eq!((score.mean, score.recall, score.decay), (0.5, 1.0 / 3.0, 0.75));
        tally.drop_last();
        assert_eq!(j(&tally).mean, 0.75);
    }
}
