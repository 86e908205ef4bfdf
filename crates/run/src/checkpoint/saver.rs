//! Checkpoints are written beside the training, not in its way.

use super::{Moment, State, write};
use crate::{Error, Settings};
use std::path::PathBuf;
use std::thread::{Builder, JoinHandle};

/// Writes one state at a time on a thread of its own: the checkpoint, then what the task exports.
pub struct Saver<S> {
    settings: S,
    export: fn(&S, &State) -> Result<(), Error>,
    milestone: Option<usize>,
    writing: Option<JoinHandle<Result<PathBuf, Error>>>,
}

impl<S: Settings> Saver<S> {
    /// A saver for the run of `settings`; checkpoints at multiples of `milestone` steps are kept for good.
    pub fn new(settings: &S, milestone: Option<usize>, export: fn(&S, &State) -> Result<(), Error>) -> Self {
        Self { settings: settings.clone(), export, milestone, writing: None }
    }

    /// Begins to write `state`. Waits for the save before this one, if need be, and returns its folder.
    ///
    /// # Errors
    /// The errors of the save before this one.
    pub fn save(&mut self, moment: Moment, state: State) -> Result<Option<PathBuf>, Error> {
        let before = self.finish()?;
        let (settings, export, milestone) = (self.settings.clone(), self.export, self.milestone);
        let work = move || {
            let path = write(&settings, moment, &state, milestone)?;
            export(&settings, &state)?;
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
        wait(&mut self.writing)
    }
}

fn wait(writing: &mut Option<JoinHandle<Result<PathBuf, Error>>>) -> Result<Option<PathBuf>, Error> {
    let Some(thread) = writing.take() else { return Ok(None) };
    let failed = || Error::File { path: "checkpoints".into(), reason: "saving broke off".into() };
    thread.join().unwrap_or_else(|_| Err(failed())).map(Some)
}

impl<S> Drop for Saver<S> {
    /// A run that ends by an error still finishes the checkpoint at hand.
    fn drop(&mut self) {
        let _ = wait(&mut self.writing);
    }
}
