//! What can be run: a task that takes steps.

use crate::checkpoint::{Found, State};
use crate::session::Event;
use crate::{Alarm, Error, Estimate, Numbers, Record, Settings, Sheet};
use selfpatch_datasets::{Fault, ImageSource, Recipe, Tally};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Work that is done in steps over epochs of images: pre-training, a probe, a segmenter.
///
/// The machinery ([`run`](crate::run)) has the folder, the checkpoints, the log, the alarms, the report and the
/// signals; a task has tensors.
pub trait Task {
    /// Settings of the task.
    type Settings: Settings;
    /// Batch that a step takes.
    type Batch;

    /// Which numbers of the task are shown, and where they lie in healthy runs.
    const SHEET: Sheet;

    /// The images that the task is trained on.
    fn images(&self) -> Arc<dyn ImageSource>;

    /// Images of one epoch, without those that do not fill a batch.
    fn images_per_epoch(&self) -> usize;

    /// Steps of one epoch.
    fn steps_per_epoch(&self) -> usize;

    /// What a user wants to know before the task begins, line by line.
    ///
    /// # Errors
    /// When the settings contradict each other.
    fn about(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    /// Gets ready for the first step of a session, with the images to read from: those of [`Task::images`], watched for
    /// changes. What takes long is told to `tell`, and ends early once `stop` is set.
    ///
    /// # Errors
    /// When the images cannot be used; [`Stopped`](selfpatch_datasets::Error::Stopped) when it ended early: the
    /// next session prepares again, and may find in the folder of the run what was made.
    fn prepare(
        &mut self,
        images: Arc<dyn ImageSource>,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), Error>;

    /// The batches of an epoch, counted from 0, from its step `first` on.
    fn epoch(&self, epoch: u64, first: usize) -> Batches<Self::Batch>;

    /// What was found out about the images until now.
    fn seen(&self) -> Seen {
        Seen::default()
    }

    /// How long the steps take that are left of `steps`, if that is known. `first_batch`: seconds until the first batch
    /// was there, while nothing else ran.
    ///
    /// # Errors
    /// When the settings contradict each other.
    fn estimate(&self, _first_batch: f64, _steps: usize, _left: usize) -> Result<Option<Estimate>, Error> {
        Ok(None)
    }

    /// Takes one step; `step` counts from 0. The numbers returned go into the log.
    ///
    /// # Errors
    /// A non-finite number changes nothing ([`StepError::NonFinite`]).
    fn step(&mut self, batch: &Self::Batch, step: usize) -> Result<Numbers, StepError>;

    /// Finds out where the non-finite number of a step began.
    ///
    /// # Errors
    /// When the search fails.
    fn explain(&mut self, batch: &Self::Batch, step: usize, error: &Error) -> Result<Explained, Error>;

    /// Measures what has been learnt, if it is time after `step` steps; `is_last`: the run ends with them. What cannot
    /// be measured is told to `warn`.
    fn measure(&mut self, _step: usize, _is_last: bool, _warn: &mut dyn FnMut(String)) -> Numbers {
        Numbers::default()
    }

    /// Whether the run looks ill, from the numbers of a step.
    fn alarms(&mut self, _record: &Record) -> Vec<Alarm> {
        Vec::new()
    }

    /// Writes pictures of what has been learnt, which the report shows.
    ///
    /// # Errors
    /// When a file cannot be written.
    fn pictures(&self) -> Result<(), Error> {
        Ok(())
    }

    /// All state of the task.
    ///
    /// # Errors
    /// When a tensor cannot be copied.
    fn state(&self) -> Result<State, Error>;

    /// Goes back to the state of a checkpoint.
    ///
    /// # Errors
    /// When the state does not fit, or a file cannot be read.
    fn restore(&mut self, found: &Found<Self::Settings>) -> Result<(), Error>;

    /// Writes what others use of a state into the folder of the run.
    ///
    /// # Errors
    /// When a file cannot be written.
    fn export(settings: &Self::Settings, state: &State) -> Result<(), Error>;
}

/// Batches of an epoch, in order.
pub type Batches<B> = Box<dyn Iterator<Item = Result<Loaded<B>, Error>>>;

/// A batch, and what happened until it was there.
#[derive(Debug)]
pub struct Loaded<B> {
    /// The batch.
    pub batch: B,
    /// Number of images in the batch.
    pub images: usize,
    /// What is wrong with samples of the batch.
    pub faults: Vec<Fault>,
    /// How long the session waited for the batch.
    pub waited: Duration,
}

/// The batches of a loader, each made into what a step takes by `batch`.
pub fn loaded<R: Recipe, B: 'static>(
    mut batches: selfpatch_datasets::Batches<R>,
    batch: impl Fn(selfpatch_datasets::Batch<R::Batch>) -> B + 'static,
) -> Batches<B> {
    let mut before = Duration::ZERO;
    Box::new(std::iter::from_fn(move || {
        let next = batches.next()?;
        let waited = batches.waited() - std::mem::replace(&mut before, batches.waited());
        Some(next.map_err(Error::from).map(|mut next| {
            let (images, faults) = (next.images(), std::mem::take(&mut next.faults));
            Loaded { batch: batch(next), images, faults, waited }
        }))
    }))
}

/// What was found out about the images.
#[derive(Default)]
pub struct Seen {
    /// Number of images that could not be used.
    pub bad: usize,
    /// What was left out of the images that could be used.
    pub left_out: Tally,
}

/// Why a step was not taken.
#[derive(Debug)]
pub enum StepError {
    /// The step met a non-finite number, and changed nothing.
    NonFinite {
        /// What was non-finite.
        error: Error,
        /// What the log says of such a step, if the run goes on.
        numbers: Numbers,
    },
    /// The step failed for another reason.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for StepError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Where a non-finite number began.
#[derive(Debug)]
pub struct Explained {
    /// The place where the number began, in words.
    pub place: String,
    /// The file that the step was kept in, if any.
    pub kept: Option<PathBuf>,
    /// What to do about the number.
    pub advice: String,
}
