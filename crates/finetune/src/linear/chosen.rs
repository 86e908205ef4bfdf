//! Some images of a source.

use selfpatch_datasets::{Content, Error, ImageSource, Stamp};
use std::sync::Arc;

/// The images at some places of another source.
pub(crate) struct Chosen {
    /// The source that the images are chosen from.
    pub source: Arc<dyn ImageSource>,
    /// Places of the images in the source.
    pub places: Vec<usize>,
}

impl ImageSource for Chosen {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn name(&self, index: usize) -> String {
        self.source.name(self.places[index])
    }

    fn id(&self, index: usize) -> u64 {
        self.source.id(self.places[index])
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(self.places[index])
    }

    fn classes(&self) -> &[String] {
        self.source.classes()
    }

    fn class_faults(&self) -> &[String] {
        self.source.class_faults()
    }

    fn stamp(&self, index: usize) -> Option<Stamp> {
        self.source.stamp(self.places[index])
    }

    fn read(&self, index: usize) -> Result<Content, Error> {
        self.source.read(self.places[index])
    }
}
