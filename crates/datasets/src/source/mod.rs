//! What pre-training reads: a numbered set of single images, whatever they come from.

mod access;
mod alike;
mod clips;
mod fingerprint;
mod folder;
mod left;
mod manifest;
mod members;
mod open;
mod own;
#[cfg(feature = "parquet")]
mod parquet;
mod partial;
mod pattern;
mod probe;
mod records;
mod remote;
mod shards;
mod stamp;

pub use access::Access;
pub use folder::ImageFolder;
pub use manifest::Manifest;
pub use open::open;
#[cfg(feature = "parquet")]
pub use parquet::pack as pack_parquet;
pub use pattern::same_files;
pub use records::Records;
pub use shards::Shards;
pub use stamp::Stamp;

use crate::{Error, Image};

/// One image as a source holds it.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// The bytes of an image file.
    File(Vec<u8>),
    /// Pixels.
    Image(Image),
}

/// A set of images that can be read in any order, from any thread.
pub trait ImageSource: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there are no images at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A name for messages, unique within the source: the path below the root, or one that the source makes.
    fn name(&self, index: usize) -> String;

    /// What image `index` is called in random streams: a function of its name alone, so that it keeps
    /// its crops when others come or go.
    fn id(&self, index: usize) -> u64 {
        let hash = blake3::hash(self.name(index).as_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(id)
    }

    /// The class of image `index`, an index into [`classes`](Self::classes), where the source has them.
    fn label(&self, _index: usize) -> Option<u32> {
        None
    }

    /// Names of the classes, empty where the source has none.
    fn classes(&self) -> &[String] {
        &[]
    }

    /// What should tell the class of an image and cannot be read, with the reason: such an image has no class.
    fn class_faults(&self) -> &[String] {
        &[]
    }

    /// Size and time of what image `index` is read from; `None` where the source has no files, or the file cannot
    /// be asked.
    fn stamp(&self, _index: usize) -> Option<Stamp> {
        None
    }

    /// Image `index`, always the same for the same index.
    fn read(&self, index: usize) -> Result<Content, Error>;
}

/// The error of an index that a source with `len` images does not have.
pub(crate) fn no_image(index: usize, len: usize) -> Error {
    Error::Missing { what: format!("image {index}"), valid: format!("the data has {len}, counted from 0") }
}

/// Labels and class names from the text that a source has for each image.
pub(crate) fn classes_of(texts: &[Option<String>]) -> (Vec<String>, Vec<Option<u32>>) {
    let mut classes: Vec<String> = texts.iter().flatten().cloned().collect();
    // Numbers in the order of numbers.
    classes.sort_by_cached_key(|t| (t.parse::<u64>().map_or((1, 0), |n| (0, n)), t.clone()));
    classes.dedup();
    let places: std::collections::HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
    let labels = texts.iter().map(|t| places.get(t.as_deref()?).copied()).collect();
    (classes, labels)
}
