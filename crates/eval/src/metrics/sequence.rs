//! The scores of the objects of one video.

use super::{Region, Statistics, boundary_f, region_similarity};
use crate::{Error, VOID};
use rayon::prelude::*;
use selfpatch_datasets::Mask;
use std::collections::BTreeSet;

/// Both measures of one object over the scored frames of its video.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ObjectScore {
    /// Region similarity.
    pub j: Statistics,
    /// Boundary accuracy.
    pub f: Statistics,
}

/// The objects of a video: the ids in its first mask in ascending order, without background and [`VOID`].
pub fn object_ids(first: &Mask) -> Vec<u8> {
    let mut seen = [false; 256];
    first.ids.iter().for_each(|&id| seen[usize::from(id)] = true);
    (1..VOID).filter(|&id| seen[usize::from(id)]).collect()
}

/// The objects that the official evaluator counts: every id from 1 to the highest of the first mask. An object that
/// is in no mask scores 1 as long as nothing is predicted for it.
pub fn official_ids(first: &Mask) -> Vec<u8> {
    let highest = object_ids(first).last().copied().unwrap_or(0);
    (1..=highest).collect()
}

/// Collects the values of one video frame by frame.
#[derive(Clone, Debug)]
pub struct SequenceTally {
    ids: Vec<u8>,
    /// `(J, F)` per frame, one list per object.
    objects: Vec<Vec<(f64, f64)>>,
    /// The ids of non-objects in the true masks, and in the predicted masks.
    others: [BTreeSet<u8>; 2],
}

impl SequenceTally {
    /// An empty tally of a video with the objects `ids`, see [`object_ids`].
    pub fn new(ids: Vec<u8>) -> Self {
        Self { objects: vec![Vec::new(); ids.len()], ids, others: Default::default() }
    }

    /// Scores one frame. Pixels that `truth` marks as [`VOID`] belong to no region. Ids of non-objects belong to no
    /// region either, and are recorded in [`others`](Self::others).
    ///
    /// # Errors
    /// [`Error::Shape`] if the masks do not have an id for each pixel or their sizes differ.
    pub fn push(&mut self, truth: &Mask, guess: &Mask) -> Result<(), Error> {
        let values = self.ids.par_iter().map(|&id| {
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
        for (others, mask) in self.others.iter_mut().zip([truth, guess]) {
            others.extend(object_ids(mask).into_iter().filter(|id| !self.ids.contains(id)));
        }
        if guess.ids.contains(&VOID) {
            self.others[1].insert(VOID);
        }
        Ok(())
    }

    /// The objects, in the order of [`values`](Self::values).
    pub fn ids(&self) -> &[u8] {
        &self.ids
    }

    /// Ids of non-objects in the scored frames: those of the true masks, and those of the predicted masks.
    pub fn others(&self) -> &[BTreeSet<u8>; 2] {
        &self.others
    }

    /// Number of frames scored so far.
    pub fn frames(&self) -> usize {
        self.objects.first().map_or(0, Vec::len)
    }

    /// Removes the last scored frame.
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
        assert_eq!(object_ids(&truth), [1, 2]);
        let mut tally = SequenceTally::new(object_ids(&truth));
        tally.push(&truth, &mask(&["11001", "11002", "00000", "22000"])).unwrap();
        assert_eq!(tally.values()[0], [(1.0, 1.0)]);
        assert_eq!(tally.values()[1][0].0, 2.0 / 3.0);
        assert!(tally.push(&truth, &mask(&["1100", "1100"])).is_err());
        assert_eq!(tally.frames(), 1);
    }

    #[test]
    fn ids_between_those_of_the_first_mask_are_no_objects() {
        let first = mask(&["9901?", "00000"]);
        assert_eq!((object_ids(&first), official_ids(&first).len()), (vec![1, 9], 9));
        assert!(object_ids(&mask(&["0?"])).is_empty() && official_ids(&mask(&["0?"])).is_empty());
        let all = Mask { width: 16, height: 16, ids: (0..=255).rev().collect() };
        assert_eq!(object_ids(&all), (1..=254).collect::<Vec<u8>>());
        let nothing = mask(&["00000", "00000"]);
        let mut tally = SequenceTally::new(object_ids(&first));
        tally.push(&first, &nothing).unwrap();
        assert_eq!(tally.values(), [[(0.0, 0.0)], [(0.0, 0.0)]]);
        // The official evaluator takes the seven between for perfectly tracked.
        let mut tally = SequenceTally::new(official_ids(&first));
        tally.push(&first, &nothing).unwrap();
        assert_eq!(tally.values().iter().filter(|v| v[0] == (1.0, 1.0)).count(), 7);
    }

    #[test]
    fn other_ids_are_remembered() {
        let mut tally = SequenceTally::new(vec![1, 9]);
        tally.push(&mask(&["1930??"]), &mask(&["19506?"])).unwrap();
        let [truth, guess] = tally.others().clone().map(|ids| ids.into_iter().collect::<Vec<_>>());
        assert_eq!((truth, guess), (vec![3], vec![5, 6, VOID]));
        assert_eq!(tally.values(), [[(1.0, 1.0)], [(1.0, 1.0)]]);
    }

    #[test]
    fn frames_are_reduced_per_object() {
        let mut tally = SequenceTally::new(vec![1]);
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
