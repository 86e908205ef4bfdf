//! The threads behind an epoch: they take samples in order and fill a few batches ahead.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::loader::Batch;
use crate::random::{Purpose, stream};
use crate::{Error, ImageSource, MultiCrop};

/// Batches in preparation while the caller works on another.
const AHEAD: usize = 2;

/// What an epoch is made of.
pub(crate) struct Job {
    pub source: Arc<dyn ImageSource>,
    pub crops: MultiCrop,
    pub batch: usize,
    pub seed: u64,
    pub epoch: u64,
    /// The images in the order in which they are used.
    pub order: Vec<usize>,
}

/// The batches of an epoch, in order. Dropping it stops the threads that prepare them.
pub struct Batches {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    job: Job,
    state: Mutex<State>,
    /// Signalled when there may be new work or a finished batch, and when all should stop.
    changed: Condvar,
}

struct State {
    /// Steps that nobody has begun.
    steps: Range<usize>,
    /// Batches begun and not yet taken by the caller, in order.
    begun: VecDeque<Progress>,
    stop: bool,
}

struct Progress {
    step: usize,
    /// Samples handed out to threads.
    taken: usize,
    /// Samples that are done.
    done: usize,
    filling: Arc<Mutex<Filling>>,
}

/// A batch that several threads write to.
#[derive(Default)]
struct Filling {
    batch: Batch,
    /// The error of the first sample in the batch that has one.
    failed: Option<(usize, Error)>,
}

/// One sample to load: its place, and where it goes.
struct Task {
    step: usize,
    slot: usize,
    filling: Arc<Mutex<Filling>>,
}

impl Batches {
    /// Starts to prepare `steps`.
    pub(crate) fn start(job: Job, steps: Range<usize>, threads: usize) -> Self {
        let state = State { steps, begun: VecDeque::new(), stop: false };
        let shared = Arc::new(Shared { job, state: Mutex::new(state), changed: Condvar::new() });
        let spawn = |number: usize| {
            let shared = Arc::clone(&shared);
            // With fewer threads than wanted the work is slower; without any the caller does it.
            Builder::new().name(format!("loader-{number}")).spawn(move || shared.work()).ok()
        };
        let threads = (0..threads).filter_map(spawn).collect();
        Self { shared, threads }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut state = lock(&self.shared.state);
        loop {
            if state.begun.front().is_some_and(|p| p.done == self.shared.job.batch) {
                let filling = state.begun.pop_front()?.filling;
                drop(state);
                self.shared.changed.notify_all();
                let Filling { batch, failed } = std::mem::take(&mut *lock(&filling));
                return Some(failed.map_or(Ok(batch), |(_, error)| Err(error)));
            }
            if state.begun.is_empty() && state.steps.is_empty() {
                return None;
            }
            if self.threads.is_empty()
                && let Some(task) = self.shared.next_task(&mut state)
            {
                drop(state);
                self.shared.run(&task);
                state = lock(&self.shared.state);
                continue;
            }
            state = self.shared.wait(state);
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        lock(&self.shared.state).stop = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A thread only ends with an error if it panicked, which it catches.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What every thread does until there is nothing left.
    fn work(&self) {
        let mut state = lock(&self.state);
        while !state.stop {
            if let Some(task) = self.next_task(&mut state) {
                drop(state);
                self.run(&task);
                state = lock(&self.state);
            } else if state.steps.is_empty() {
                return; // all samples are handed out
            } else {
                state = self.wait(state);
            }
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next sample in order, unless enough batches are under way.
    fn next_task(&self, state: &mut State) -> Option<Task> {
        let size = self.job.batch;
        if state.begun.back().is_none_or(|p| p.taken == size) {
            if state.begun.len() >= AHEAD {
                return None;
            }
            let step = state.steps.next()?;
            let filling = Arc::new(Mutex::new(Filling { batch: self.job.empty(step), failed: None }));
            state.begun.push_back(Progress { step, taken: 0, done: 0, filling });
        }
        let progress = state.begun.back_mut()?;
        let slot = progress.taken;
        progress.taken += 1;
        Some(Task { step: progress.step, slot, filling: Arc::clone(&progress.filling) })
    }

    /// Loads a sample into its batch.
    fn run(&self, task: &Task) {
        let id = self.job.order[task.step * self.job.batch + task.slot];
        // Sources are anybody's code: a panic of theirs becomes the error of this batch.
        let views = catch_unwind(AssertUnwindSafe(|| self.job.views(id)));
        let views = views.unwrap_or_else(|cause| {
            let text = cause.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
            let reason = text.map_or("it panicked".into(), |text| format!("it panicked: {text}"));
            Err(Error::Worker { sample: format!("image {id}"), reason })
        });
        let mut filling = lock(&task.filling);
        match views {
            Ok(views) => self.job.put(&mut filling.batch, task.slot, &views),
            Err(error) => {
                if filling.failed.as_ref().is_none_or(|&(slot, _)| task.slot < slot) {
                    filling.failed = Some((task.slot, error));
                }
            }
        }
        drop(filling);
        let mut state = lock(&self.state);
        if let Some(progress) = state.begun.iter_mut().find(|p| p.step == task.step) {
            progress.done += 1;
            if progress.done == self.job.batch {
                self.changed.notify_all();
            }
        }
    }
}

impl Job {
    /// The batch of `step`, still black.
    fn empty(&self, step: usize) -> Batch {
        let bytes = |count: usize, size: usize| vec![0; count * self.batch * 3 * size * size];
        let globals = self.crops.globals.first().map_or(0, |view| view.size);
        Batch {
            ids: self.order[step * self.batch..(step + 1) * self.batch].to_vec(),
            globals: bytes(self.crops.globals.len(), globals),
            locals: bytes(self.crops.local_count, self.crops.locals.size),
            batch: self.batch,
        }
    }

    /// All views of image `id`, each from a random stream of its own.
    fn views(&self, id: usize) -> Result<Vec<Vec<u8>>, Error> {
        let image = self.source.load(id)?;
        if !image.is_whole() {
            let reason = format!("{} x {} pixels but {} bytes", image.width, image.height, image.pixels.len());
            return Err(Error::Worker { sample: self.source.name(id), reason });
        }
        let mut rng = stream(self.seed, Purpose::Crop, self.epoch, id as u64);
        let draw = |view: usize| {
            rng.set_stream(view as u64);
            rng.set_word_pos(0);
            self.crops.crop(&image, view, &mut rng)
        };
        Ok((0..self.crops.views()).map(draw).collect())
    }

    /// Copies the views of a sample to their places among those of the others.
    fn put(&self, batch: &mut Batch, slot: usize, views: &[Vec<u8>]) {
        let globals = self.crops.globals.len();
        for (number, view) in views.iter().enumerate() {
            let (target, number) = match number.checked_sub(globals) {
                None => (&mut batch.globals, number),
                Some(local) => (&mut batch.locals, local),
            };
            let at = (number * self.batch + slot) * view.len();
            target[at..at + view.len()].copy_from_slice(view);
        }
    }
}

/// Locks, also after a panic: every state left behind is complete, as no code of others runs
/// under a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
