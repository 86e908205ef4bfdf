//! What pre-training reads: a numbered set of single images.

use crate::{Error, Rgb};

/// A set of images that can be loaded in any order, from any thread.
pub trait ImageSource: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;
    /// Whether there are no images at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// A name for messages: the path below the root, or a made-up name.
    fn name(&self, index: usize) -> String;
    /// Image `index`, always the same for the same index.
    fn load(&self, index: usize) -> Result<Rgb, Error>;
}

/// The error of an index that a source with `len` images does not have.
pub(crate) fn no_image(index: usize, len: usize) -> Error {
    Error::Missing { what: format!("image {index}"), valid: format!("the data has {len}, counted from 0") }
}
