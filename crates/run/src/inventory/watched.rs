//! A source that remembers what was read from it.

use super::digest::digest;
use super::list::{Entry, Inventory};
use selfpatch_datasets::{Content, Error, ImageSource, Stamp};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The images of another source: each one that is read becomes known by its digest, or is compared with it.
pub(crate) struct Watched {
    source: Arc<dyn ImageSource>,
    inventory: Inventory,
    digests: Vec<AtomicU64>,
    /// Whether there is something to write.
    learnt: AtomicBool,
    /// Names of the images whose bytes are others than before, until they are told.
    changed: Mutex<Vec<String>>,
}

impl Watched {
    /// Watches `source`, whose images `inventory` lists.
    pub fn new(source: Arc<dyn ImageSource>, inventory: Inventory) -> Self {
        let digests = shared(&inventory.entries);
        Self { source, inventory, digests, learnt: AtomicBool::new(false), changed: Mutex::default() }
    }

    /// Writes what was learnt into the folder of the run, if there is anything new.
    pub fn save(&self, run: &Path) -> Result<(), crate::Error> {
        if !self.learnt.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let mut now = self.inventory.clone();
        now.entries.iter_mut().zip(&self.digests).for_each(|(entry, digest)| entry.digest = known(digest));
        now.write(run)
    }

    /// Images that were found changed since the last call.
    pub fn take_changed(&self) -> Vec<String> {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ImageSource for Watched {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn id(&self, index: usize) -> u64 {
        self.source.id(index)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(index)
    }

    fn classes(&self) -> &[String] {
        self.source.classes()
    }

    fn class_faults(&self) -> &[String] {
        self.source.class_faults()
    }

    fn stamp(&self, index: usize) -> Option<Stamp> {
        self.source.stamp(index)
    }

    fn read(&self, index: usize) -> Result<Content, Error> {
        let content = self.source.read(index)?;
        if let Some(place) = self.digests.get(index) {
            let now = digest(&content);
            let before = place.swap(now, Ordering::Relaxed);
            if before != now {
                self.learnt.store(true, Ordering::Relaxed);
            }
            if before != 0 && before != now {
                self.changed.lock().unwrap_or_else(PoisonError::into_inner).push(self.name(index));
            }
        }
        Ok(content)
    }
}

/// Digests that threads may learn and compare at once; 0 for none.
fn shared(entries: &[Entry]) -> Vec<AtomicU64> {
    entries.iter().map(|e| AtomicU64::new(e.digest.unwrap_or(0))).collect()
}

fn known(digest: &AtomicU64) -> Option<u64> {
    Some(digest.load(Ordering::Relaxed)).filter(|&d| d > 0)
}
