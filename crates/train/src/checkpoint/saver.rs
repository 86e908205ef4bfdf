//! Checkpoints are written beside the training, not in its way.

use super::{Snapshot, write};
use crate::{Config, Error, export};
use std::path::PathBuf;
use std::thread::{Builder, JoinHandle};

/// Writes one snapshot at a time on a thread of its own: the checkpoint, then the exported backbone.
pub struct Saver {
    config: Config,
    milestone: Option<usize>,
    writing: Option<JoinHandle<Result<PathBuf, Error>>>,
}

impl Saver {
    /// For the run of `config`; checkpoints at multiples of `milestone` steps are kept for good.
    pub fn new(config: &Config, milestone: Option<usize>) -> Self {
        Self { config: config.clone(), milestone, writing: None }
    }

    /// Begins to write `snapshot`. Waits for the one before, if it is not done, and returns its folder.
    pub fn save(&mut self, snapshot: Snapshot) -> Result<Option<PathBuf>, Error> {
        let before = self.finish()?;
        let (config, milestone) = (self.config.clone(), self.milestone);
        let work = move || {
            let path = write(&config.output_dir, &config, &snapshot, milestone)?;
            export::export(&config.output_dir, &config, &snapshot.teacher)?;
            Ok(path)
        };
        let thread = Builder::new().name("checkpoint".into()).spawn(work).map_err(Error::io("checkpoint thread"))?;
        self.writing = Some(thread);
        Ok(before)
    }

    /// The folder of a checkpoint that has become complete; never waits.
    pub fn done(&mut self) -> Result<Option<PathBuf>, Error> {
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished) { self.finish() } else { Ok(None) }
    }

    /// Waits for what is being written, and returns its folder.
    pub fn finish(&mut self) -> Result<Option<PathBuf>, Error> {
        let Some(thread) = self.writing.take() else { return Ok(None) };
        let failed =
            || Error::File { path: self.config.output_dir.join("checkpoints"), reason: "saving broke off".into() };
        thread.join().unwrap_or_else(|_| Err(failed())).map(Some)
    }
}

impl Drop for Saver {
    /// A run that ends by an error still finishes the checkpoint at hand.
    fn drop(&mut self) {
        let _ = self.finish();
    }
}
