//! The threads behind an epoch: they take samples in order and fill a few batches ahead.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::augment::Picture;
use crate::decode::Seen;
use crate::loader::{Batch, Fault, Faults, LoaderConfig};
use crate::source::Content;
use crate::{Decoding, Error, Format, ImageSource, MultiCrop, Notes, Samples};

/// What an epoch is made of.
pub(crate) struct Job {
    pub source: Arc<dyn ImageSource>,
    pub crops: MultiCrop,
    pub decoding: Decoding,
    pub config: LoaderConfig,
    pub epoch: u64,
    /// The images in the order in which all ranks together use them.
    pub order: Vec<usize>,
}

/// The batches of an epoch, in order. Dropping it stops the threads that prepare them.
pub struct Batches {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    waited: Duration,
    /// What is wrong with samples, of this epoch and those before it.
    faults: Arc<Mutex<Faults>>,
    /// What was left out of samples.
    seen: Arc<Mutex<Seen>>,
    stopped: bool,
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
    /// Samples of the batch.
    size: usize,
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
    /// With the slot for which the sample was meant.
    faults: Vec<(usize, Fault)>,
    /// With the slot, too.
    notes: Vec<(usize, Notes)>,
    /// Why a slot could not be filled at all.
    failed: Option<Error>,
}

/// One sample to load: its place, and where it goes.
struct Task {
    step: usize,
    slot: usize,
    filling: Arc<Mutex<Filling>>,
}

impl Batches {
    /// Starts to prepare `steps`.
    pub(crate) fn start(job: Job, steps: Range<usize>, (faults, seen): (Arc<Mutex<Faults>>, Arc<Mutex<Seen>>)) -> Self {
        let threads = job.config.threads;
        let state = State { steps, begun: VecDeque::new(), stop: false };
        let shared = Arc::new(Shared { job, state: Mutex::new(state), changed: Condvar::new() });
        let spawn = |number: usize| {
            let shared = Arc::clone(&shared);
            // With fewer threads than wanted the work is slower; without any the caller does it.
            Builder::new().name(format!("loader-{number}")).spawn(move || shared.work()).ok()
        };
        let threads = (0..threads).filter_map(spawn).collect();
        Self { shared, threads, waited: Duration::ZERO, faults, seen, stopped: false }
    }

    /// Time that the caller has spent waiting for batches.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// A finished batch, or an error once too many samples are bad.
    fn checked(&mut self, filling: &Mutex<Filling>) -> Result<Batch, Error> {
        let Filling { mut batch, mut faults, mut notes, failed } = std::mem::take(&mut *lock(filling));
        if let Some(error) = failed {
            return Err(error);
        }
        faults.sort_by_key(|(slot, _)| *slot);
        batch.faults = faults.into_iter().map(|(_, fault)| fault).collect();
        notes.sort_by_key(|(slot, _)| *slot);
        let mut seen = lock(&self.seen);
        for (slot, notes) in notes {
            seen.add(batch.ids[slot], &notes);
        }
        drop(seen);
        let mut known = lock(&self.faults);
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

impl Iterator for Batches {
    type Item = Result<Batch, Error>;

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

impl Batches {
    /// Waits for the next batch in order, or makes it if there are no threads.
    fn finished(&mut self) -> Option<Arc<Mutex<Filling>>> {
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
        if state.begun.back().is_none_or(|p| p.taken == p.size) {
            if state.begun.len() >= self.job.config.ahead.max(1) {
                return None;
            }
            let step = state.steps.next()?;
            let batch = self.job.empty(step);
            let size = batch.batch;
            let filling = Arc::new(Mutex::new(Filling { batch, ..Filling::default() }));
            state.begun.push_back(Progress { step, size, taken: 0, done: 0, filling });
        }
        let progress = state.begun.back_mut()?;
        let slot = progress.taken;
        progress.taken += 1;
        Some(Task { step: progress.step, slot, filling: Arc::clone(&progress.filling) })
    }

    /// Loads a sample into its batch, or another one in its place.
    fn run(&self, task: &Task) {
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
                job.put(&mut filling.batch, task.slot, &views);
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
    fn attempt(&self, id: usize) -> Result<(Vec<Samples>, Option<String>, Notes), String> {
        catch_unwind(AssertUnwindSafe(|| self.job.views(id))).unwrap_or_else(|cause| {
            let text = cause.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
            Err(text.map_or("it panicked".into(), |text| format!("it panicked: {text}")))
        })
    }
}

impl Job {
    /// Place in the order of the first sample of `step` on this rank.
    fn first(&self, step: usize) -> usize {
        let LoaderConfig { batch, rank, world, .. } = self.config;
        (step * world + rank) * batch
    }

    /// The batch of `step`, still black.
    fn empty(&self, step: usize) -> Batch {
        let first = self.first(step);
        let ids = self.order[first..(first + self.config.batch).min(self.order.len())].to_vec();
        let samples = |views: usize, size: usize| {
            let count = views * ids.len() * self.decoding.channels * size * size;
            match &self.decoding.range {
                None => Samples::Bytes(vec![0; count]),
                Some(_) => Samples::Floats(vec![0.; count]),
            }
        };
        let globals = self.crops.globals.first().map_or(0, |view| view.size);
        let globals = samples(self.crops.globals.len(), globals);
        let locals = samples(self.crops.local_count, self.crops.locals.size);
        Batch { batch: ids.len(), ids, globals, locals, ..Batch::default() }
    }

    /// All views of image `id`, each from a random stream of its own, what is odd about it, and what of it was
    /// left out; or why there are none.
    fn views(&self, id: usize) -> Result<(Vec<Samples>, Option<String>, Notes), String> {
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
        let drawn = self.crops.draw_all(picture.shape(), self.config.seed, self.epoch, self.source.id(id));
        Ok((drawn.iter().map(|view| picture.view(view)).collect(), note, notes))
    }

    /// Copies the views of a sample to their places among those of the others.
    fn put(&self, batch: &mut Batch, slot: usize, views: &[Samples]) {
        let (globals, size) = (self.crops.globals.len(), batch.batch);
        for (number, view) in views.iter().enumerate() {
            let (target, number) = match number.checked_sub(globals) {
                None => (&mut batch.globals, number),
                Some(local) => (&mut batch.locals, local),
            };
            let at = (number * size + slot) * view.len();
            match (target, view) {
                (Samples::Bytes(to), Samples::Bytes(from)) => to[at..at + from.len()].copy_from_slice(from),
                (Samples::Floats(to), Samples::Floats(from)) => to[at..at + from.len()].copy_from_slice(from),
                // `Decoding` makes one kind only.
                _ => {}
            }
        }
    }
}

/// Locks, also after a panic: every state left behind is complete, as no code of others runs
/// under a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
