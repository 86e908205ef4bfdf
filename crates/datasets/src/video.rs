//! What an evaluation on videos reads: named sequences of frames with masks.

use crate::{Error, Mask, Rgb};

/// A set of video sequences with object masks. Frames are decoded when asked for.
pub trait VideoSource: Sync {
    /// Names of the sequences, in the order in which they are evaluated.
    fn sequences(&self) -> Vec<String>;
    /// Number of frames of `sequence`.
    fn frames(&self, sequence: &str) -> Result<usize, Error>;
    /// Frame `index` of `sequence`.
    fn frame(&self, sequence: &str, index: usize) -> Result<Rgb, Error>;
    /// What frame `index` is called in results: the stem of its file.
    fn frame_name(&self, _sequence: &str, index: usize) -> Result<String, Error> {
        Ok(format!("{index:05}"))
    }
    /// What of `sequence` is not used, such as files that are neither frames nor masks, in words.
    fn notes(&self, _sequence: &str) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
    /// What of the frames that were decoded until now their pixels do not have, such as values beyond 8 bits, counted
    /// and in words.
    fn left_out(&self, _sequence: &str) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
    /// The colours of the ids, three bytes each, where the masks of `sequence` have colours.
    fn palette(&self, _sequence: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }
    /// Mask of frame `index`, or `None` where the set has none (only frame 0 must have one).
    fn mask(&self, sequence: &str, index: usize) -> Result<Option<Mask>, Error>;
}
