//! The threads behind an epoch: they take samples in order and fill a few batches ahead.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::augment::Picture;
use crate::batch::{Batch, Fault, Faults, LoaderConfig};
use crate::decode::Seen;
use crate::recipe::{Key, Recipe};
use crate::source::Content;
use crate::{Decoding, Error, Format, ImageSource, Notes};

/// What an epoch is made of.
pub(crate) struct Job<R> {
    pub source: Arc<dyn ImageSource>,
    pub recipe: R,
    pub decoding: Decoding,
    pub config: LoaderConfig,
    pub epoch: u64,
    /// The images in the order in which all ranks together use them.
    pub order: Vec<usize>,
}

/// What is known of samples, of this epoch and those before it.
pub(crate) struct Known {
    /// What is wrong with them.
    pub faults: Arc<Mutex<Faults>>,
    /// What was left out of them.
    pub seen: Arc<Mutex<Seen>>,
}

/// The batches of an epoch, in order. Dropping it stops the threads that prepare them.
pub struct Batches<R: Recipe> {
    shared: Arc<Shared<R>>,
    threads: Vec<JoinHandle<()>>,
    waited: Duration,
    known: Known,
    stopped: bool,
}

struct Shared<R: Recipe> {
    job: Job<R>,
    state: Mutex<State<R::Batch>>,
    /// Signalled when there may be new work or a finished batch, and when all should stop.
    changed: Condvar,
}

struct State<V> {
    /// Steps that nobody has begun.
    steps: Range<usize>,
    /// Batches begun and not yet taken by the caller, in order.
    begun: VecDeque<Progress<V>>,
    stop: bool,
}

struct Progress<V> {
    step: usize,
    /// Samples of the batch.
    size: usize,
    /// Samples handed out to threads.
    taken: usize,
    /// Samples that are done.
    done: usize,
    filling: Arc<Mutex<Filling<V>>>,
}

/// A batch that several threads write to.
#[derive(Default)]
struct Filling<V> {
    batch: Batch<V>,
    /// With the slot for which the sample was meant.
    faults: Vec<(usize, Fault)>,
    /// With the slot, too.
    notes: Vec<(usize, Notes)>,
    /// Why a slot could not be filled at all.
    failed: Option<Error>,
}

/// One sample to load: its place, and where it goes.
struct Task<V> {
    step: usize,
    slot: usize,
    filling: Arc<Mutex<Filling<V>>>,
}

impl<R: Recipe> Batches<R> {
    /// Starts to prepare `steps`.
    pub(crate) fn start(job: Job<R>, steps: Range<usize>, known: Known) -> Self {
        let threads = job.config.threads;
        let state = State { steps, begun: VecDeque::new(), stop: false };
        let shared = Arc::new(Shared { job, state: Mutex::new(state), changed: Condvar::new() });
        let spawn = |number: usize| {
            let shared = Arc::clone(&shared);
            // With fewer threads than wanted the work is slower; without any the caller does it.
            Builder::new().name(format!("loader-{number}")).spawn(move || shared.work()).ok()
        };
        let threads = (0..threads).filter_map(spawn).collect();
        Self { shared, threads, waited: Duration::ZERO, known, stopped: false }
    }

    /// Time that the caller has spent waiting for batches.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// A finished batch, or an error once too many samples are bad.
    fn checked(&mut self, filling: &Mutex<Filling<R::Batch>>) -> Result<Batch<R::Batch>, Error> {
        let Filling { mut batch, mut faults, mut notes, failed } = std::mem::take(&mut *lock(filling));
        if let Some(error) = failed {
            return Err(error);
        }
        faults.sort_by_key(|(slot, _)| *slot);
        batch.faults = faults.into_iter().map(|(_, fault)| fault).collect();
        notes.sort_by_key(|(slot, _)| *slot);
        let mut seen = lock(&self.known.seen);
        for (slot, notes) in notes {
            seen.add(batch.ids[slot], &notes);
        }
        drop(seen);
        let mut known = lock(&self.known.faults);
        for fault in &mut batch.faults {
            fault.first = known.insert(fault.name.clone(), (fault.reason.clone(), fault.bad)).is_none();
        }
        let bad = || known.iter().filter(|(_, (_, bad))| *bad);
        let (count, of) = (bad().count(), self.shared.job.source.len());
        let max_bad = self.shared.job.config.max_bad;
        if batch.faults.iter().any(|f| f.first && f.bad) && count as f64 > max_bad * of as f64 {
            self.stopped = true;
            let list = bad().map(|(name, (reason, _))| format!("{name}: {reason}")).collect();
            return Err(Error::TooManyBad { count, of, max_bad, list });
        }
        Ok(batch)
    }
}

impl<R: Recipe> Iterator for Batches<R> {
    type Item = Result<Batch<R::Batch>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.stopped {
            return None;
        }
        let begun = Instant::now();
        let filling = self.finished();
        self.waited += begun.elapsed();
        let filling = filling?;
        Some(self.checked(&filling))
    }
}

impl<R: Recipe> Batches<R> {
    /// Waits for the next batch in order, or makes it if there are no threads.
    fn finished(&mut self) -> Option<Arc<Mutex<Filling<R::Batch>>>> {
        let mut state = lock(&self.shared.state);
        loop {
            if state.begun.front().is_some_and(|p| p.done == p.size) {
                let filling = state.begun.pop_front()?.filling;
                drop(state);
                self.shared.changed.notify_all();
                return Some(filling);
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

impl<R: Recipe> Drop for Batches<R> {
    fn drop(&mut self) {
        lock(&self.shared.state).stop = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A thread only ends with an error if it panicked, which it catches.
            let _ = thread.join();
        }
    }
}

impl<R: Recipe> Shared<R> {
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

    fn wait<'a>(&self, state: MutexGuard<'a, State<R::Batch>>) -> MutexGuard<'a, State<R::Batch>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next sample in order, unless enough batches are under way.
    fn next_task(&self, state: &mut State<R::Batch>) -> Option<Task<R::Batch>> {
        if state.begun.back().is_none_or(|p| p.taken == p.size) {
            if state.begun.len() >= self.job.config.ahead.max(1) {
                return None;
            }
            let step = state.steps.next()?;
            let batch = self.job.empty(step);
            let size = batch.images();
            let filling = Arc::new(Mutex::new(Filling { batch, ..Filling::default() }));
            state.begun.push_back(Progress { step, size, taken: 0, done: 0, filling });
        }
        let progress = state.begun.back_mut()?;
        let slot = progress.taken;
        progress.taken += 1;
        Some(Task { step: progress.step, slot, filling: Arc::clone(&progress.filling) })
    }

    /// Loads a sample into its batch, or another one in its place.
    fn run(&self, task: &Task<R::Batch>) {
        let job = &self.job;
        let place = job.first(task.step) + task.slot;
        let mut loaded = None;
        // If a sample is bad, the one half an epoch on takes its place, and so forth: the same one
        // whoever asks.
        let candidates = std::iter::once(place).chain((0..job.order.len()).map(|i| place + job.order.len() / 2 + i));
        for at in candidates {
            let id = job.order[at % job.order.len()];
            let result = self.attempt(id);
            let name = || job.source.name(id);
            let mut filling = lock(&task.filling);
            match result {
                Ok((views, note, notes)) => {
                    filling.notes.push((task.slot, notes));
                    let note = note.map(|reason| Fault { name: name(), reason, bad: false, first: false });
                    filling.faults.extend(note.map(|fault| (task.slot, fault)));
                    drop(filling);
                    loaded = Some((id, views));
                    break;
                }
                Err(reason) => {
                    filling.faults.push((task.slot, Fault { name: name(), reason, bad: true, first: false }));
                    // Enough to stop the run; no need to try all of them.
                    if filling.faults.len() as f64 > job.config.max_bad * job.source.len() as f64 + 64. {
                        break;
                    }
                }
            }
        }
        let mut filling = lock(&task.filling);
        match loaded {
            Some((id, views)) => {
                filling.batch.ids[task.slot] = id;
                let images = filling.batch.images();
                job.recipe.put(&mut filling.batch.views, task.slot, images, views);
            }
            // With as many bad samples the run is about to stop; if it may go on, this is why it cannot.
            None if job.config.max_bad >= 1. => {
                filling.failed = Some(Error::Config { field: "data", reason: "not one image can be used".into() });
            }
            None => {}
        }
        drop(filling);
        let mut state = lock(&self.state);
        if let Some(progress) = state.begun.iter_mut().find(|p| p.step == task.step) {
            progress.done += 1;
            if progress.done == progress.size {
                self.changed.notify_all();
            }
        }
    }

    /// The views of image `id`. Sources are anybody's code: a panic of theirs is a reason like others.
    fn attempt(&self, id: usize) -> Result<(R::Views, Option<String>, Notes), String> {
        catch_unwind(AssertUnwindSafe(|| self.job.views(id))).unwrap_or_else(|cause| {
            let text = cause.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
            Err(text.map_or("it panicked".into(), |text| format!("it panicked: {text}")))
        })
    }
}

impl<R: Recipe> Job<R> {
    /// Place in the order of the first sample of `step` on this rank.
    fn first(&self, step: usize) -> usize {
        let LoaderConfig { batch, rank, world, .. } = self.config;
        (step * world + rank) * batch
    }

    /// The batch of `step`, still black.
    fn empty(&self, step: usize) -> Batch<R::Batch> {
        let first = self.first(step);
        let ids = self.order[first..(first + self.config.batch).min(self.order.len())].to_vec();
        Batch { views: self.recipe.empty(ids.len(), &self.decoding), ids, faults: Vec::new() }
    }

    /// All views of image `id`, each from a random stream of its own, what is odd about it, and what of it was
    /// left out; or why there are none.
    fn views(&self, id: usize) -> Result<(R::Views, Option<String>, Notes), String> {
        let content = self.source.read(id).map_err(|e| e.to_string())?;
        let note = match &content {
            Content::File(bytes) => Format::mislabelled(&self.source.name(id), bytes),
            Content::Image(_) => None,
        };
        let (image, notes) = self.decoding.content(content)?;
        let picture = Picture::of(&image)
            .ok_or_else(|| format!("{} x {} pixels but {} values", image.width, image.height, image.samples.len()))?
            .resized_as(self.config.pillow);
        drop(image);
        let key = Key { seed: self.config.seed, epoch: self.epoch, id: self.source.id(id) };
        Ok((self.recipe.views(&picture, &key), note, notes))
    }
}

/// Locks, also after a panic: every state left behind is complete, as no code of others runs
/// under a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
