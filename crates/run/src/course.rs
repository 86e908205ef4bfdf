//! The course of a run: its folder, then one step after the other.

use crate::books::Books;
use crate::checkpoint::{Moment, Saver};
use crate::folder::{self, Folder};
use crate::inventory::{Watched, listed};
use crate::session::{Cut, End, Event, Session, Summary};
use crate::settings::{Common, NonFinite};
use crate::task::{Explained, Loaded, StepError, Task};
use crate::{Alarm, Error, Numbers, Record, Settings, write_report};
use selfpatch_datasets::{Fault, ImageSource, LeftOut, Tally};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Time between two writings of the report.
const REPORT: Duration = Duration::from_secs(30);

/// Time between two pictures of what has been learnt, which take a second of a large network.
const PICTURES: Duration = Duration::from_secs(300);

/// Runs `task` as `settings` say, or continues where an earlier session of the same run stopped.
///
/// Nothing is written before the folder is known to be this run's, with images and settings that are those of before or
/// that may differ.
///
/// # Errors
/// Whatever keeps the run from going on; it can be continued afterwards.
pub fn run<T: Task>(
    settings: &T::Settings,
    task: &mut T,
    session: &Session,
    tell: &mut dyn FnMut(Event),
) -> Result<Summary, Error> {
    let (images, schedule) = (task.images(), Schedule::of(&settings.common(), task));
    let mut folder = folder::open(settings, &*images, session, &mut |w| tell(Event::Warning(w)))?;
    let first = match &folder.found {
        Some(found) => task.restore(found).map(|()| found.step).inspect_err(|_| folder.leave())?,
        None => 0,
    };
    let is_complete = first >= schedule.end;
    // Nothing is done: the settings stay those that the run was made with.
    if !is_complete || folder.branches {
        folder.begin(settings, &*images)?;
    }
    if is_complete {
        let made_with = folder.found.as_ref().filter(|_| !folder.branches).map_or(settings, |found| &found.settings);
        // Whatever ended the session that came this far may have come between the checkpoint and these.
        T::export(made_with, &task.state()?)?;
        write_report(settings.common().folder, &T::SHEET)
            .map_err(Error::io(settings.common().folder.join("report.html")))?;
        return Ok(schedule.summary(settings, End::WasComplete, first));
    }
    let course = Course::begin(settings, task, session, schedule, &mut folder, first)?;
    tell(Event::Start {
        images: course.task.images_per_epoch(),
        about: course.task.about()?,
        first_step: first,
        steps: course.schedule.end,
        steps_per_epoch: course.schedule.per_epoch,
    });
    let images = course.watched.clone().map_or(images, |watched| watched as Arc<dyn ImageSource>);
    match course.task.prepare(images, session.stop, tell) {
        Err(Error::Data(selfpatch_datasets::Error::Stopped { .. })) if course.is_stopped() => course.leave(tell),
        prepared => prepared.and_then(|()| course.go(tell)),
    }
}

/// At which steps a run ends, begins an epoch and writes its log.
#[derive(Clone, Copy)]
struct Schedule {
    /// Steps at which the run ends.
    end: usize,
    /// Steps of all epochs, `end` if `optim.max_steps` ends the run no earlier.
    whole: usize,
    /// Steps of an epoch.
    per_epoch: usize,
    /// Steps between lines of the log.
    log_every: usize,
}

impl Schedule {
    fn of<T: Task>(common: &Common, task: &T) -> Self {
        let per_epoch = task.steps_per_epoch();
        let whole = per_epoch * common.epochs;
        let end = whole.min(common.max_steps.unwrap_or(whole));
        Self { end, whole, per_epoch, log_every: (whole / 20_000).max(1) }
    }

    fn summary(&self, settings: &impl Settings, end: End, step: usize) -> Summary {
        let cut = (step < self.whole).then_some(Cut { step, of: self.whole });
        Summary { folder: settings.common().folder.into(), end, cut }
    }
}

/// A session under way.
struct Course<'a, T: Task> {
    settings: &'a T::Settings,
    task: &'a mut T,
    session: &'a Session<'a>,
    schedule: Schedule,
    books: Books,
    saver: Saver<T::Settings>,
    /// The images, where there are files of them.
    watched: Option<Arc<Watched>>,
    /// Finished steps.
    step: usize,
    /// Steps in a row that were left out.
    skipped: usize,
    /// What was left out of images, as far as it was told.
    left_out: Tally,
    /// Number of images in the last summary of what was left out.
    summed_up: usize,
    start: Instant,
    /// When the step at hand began.
    begun: Instant,
    saved: Instant,
    reported: Instant,
    pictured: Instant,
}

/// What is due after a step.
struct Due {
    save: bool,
    /// Whether the session ends, so that all is due.
    all: bool,
}

impl<'a, T: Task> Course<'a, T> {
    fn begin(
        settings: &'a T::Settings,
        task: &'a mut T,
        session: &'a Session<'a>,
        schedule: Schedule,
        folder: &mut Folder<T::Settings>,
        first: usize,
    ) -> Result<Self, Error> {
        let common = settings.common();
        let inventory = folder.inventory.take();
        let watched = inventory.map(|known| Arc::new(Watched::new(task.images(), known)));
        let milestone = Some(common.checkpoint.milestone_epochs * schedule.per_epoch).filter(|steps| *steps > 0);
        let now = Instant::now();
        Ok(Self {
            settings,
            task,
            session,
            schedule,
            books: Books::open(common.folder, first)?,
            saver: Saver::new(settings, milestone, T::export),
            watched,
            step: first,
            skipped: 0,
            left_out: Tally::default(),
            summed_up: 0,
            start: now,
            begun: now,
            saved: now,
            reported: now,
            pictured: now,
        })
    }

    /// Takes all steps that are left.
    fn go(mut self, tell: &mut dyn FnMut(Event)) -> Result<Summary, Error> {
        let first = self.step;
        while self.step < self.schedule.end {
            let (epoch, begin) = (self.step / self.schedule.per_epoch, self.step % self.schedule.per_epoch);
            for loaded in self.task.epoch(epoch as u64, begin) {
                let loaded = loaded?;
                self.faults(&loaded, tell)?;
                if self.step == first {
                    self.estimate(&loaded, tell)?;
                }
                let numbers = self.take(&loaded, tell)?;
                self.step += 1;
                self.keep(&loaded, numbers, tell)?;
                let due = self.due();
                self.save(&due, tell)?;
                self.sum_up(&due, tell)?;
                self.show(&due)?;
                if due.all {
                    return self.close(tell);
                }
            }
        }
        Ok(self.schedule.summary(self.settings, End::Complete, self.step))
    }

    /// Ends a session that was stopped before its first step. A run without checkpoint gets one, so that the next
    /// session finds what was made.
    fn leave(mut self, tell: &mut dyn FnMut(Event)) -> Result<Summary, Error> {
        self.save(&Due { save: self.step == 0, all: true }, tell)?;
        self.close(tell)
    }

    /// Tells what is wrong with samples, each the first time that it is met.
    fn faults(&mut self, loaded: &Loaded<T::Batch>, tell: &mut dyn FnMut(Event)) -> Result<(), Error> {
        let new = self.left_out_first();
        for fault in loaded.faults.iter().filter(|fault| fault.first).chain(&new) {
            tell(Event::Fault(fault));
            self.books.fault(self.step, fault)?;
        }
        Ok(())
    }

    /// The first image of each kind of which something was left out since the last call.
    fn left_out_first(&mut self) -> Vec<Fault> {
        let (now, images) = (self.task.seen().left_out, self.task.images());
        let fault = |(id, kinds): (usize, Vec<LeftOut>)| {
            let kinds: Vec<&str> = kinds.into_iter().map(LeftOut::of_one).collect();
            let reason = format!("{}; others like it are counted", kinds.join("; "));
            Fault { name: images.name(id), reason, bad: false, first: true }
        };
        let new = now.new_since(&self.left_out).into_iter().map(fault).collect();
        self.left_out = now;
        new
    }

    fn estimate(&mut self, loaded: &Loaded<T::Batch>, tell: &mut dyn FnMut(Event)) -> Result<(), Error> {
        let (steps, left) = (self.schedule.end, self.schedule.end - self.step);
        if let Some(estimate) = self.task.estimate(loaded.waited.as_secs_f64(), steps, left)? {
            tell(Event::Estimate(&estimate));
        }
        Ok(())
    }

    /// Takes one step, which is left out or ends the run where it meets a non-finite number.
    fn take(&mut self, loaded: &Loaded<T::Batch>, tell: &mut dyn FnMut(Event)) -> Result<Numbers, Error> {
        let (error, numbers) = match self.task.step(&loaded.batch, self.step) {
            Ok(numbers) => {
                self.skipped = 0;
                return Ok(numbers);
            }
            Err(StepError::Failed(error)) => return Err(error),
            Err(StepError::NonFinite { error, numbers }) => (error, numbers),
        };
        self.skipped += 1;
        let health = self.settings.common().health;
        let stop = health.not_finite == NonFinite::Stop || self.skipped > health.most_skipped;
        if stop {
            // The state before this step is sound, and comes first: none of it is lost.
            self.saver.save(self.moment(), self.task.state()?)?;
            self.saver.finish()?;
        }
        let Explained { place, kept, advice } = self.task.explain(&loaded.batch, self.step, &error)?;
        let file = kept.as_ref().map_or(String::new(), |file| format!("; kept in {}", file.display()));
        let text = format!("{error}; {place}{file}");
        let alarm = Alarm { step: self.step as u64, kind: "not-finite".into(), text };
        tell(Event::Alarm(&alarm));
        self.books.alarm(&alarm)?;
        if stop {
            self.report()?;
            return Err(Error::Sick { what: Box::new(error), place, kept, advice });
        }
        Ok(numbers)
    }

    /// Measures, and writes all numbers of the step that has just been finished.
    fn keep(&mut self, loaded: &Loaded<T::Batch>, numbers: Numbers, tell: &mut dyn FnMut(Event)) -> Result<(), Error> {
        let seconds = self.begun.elapsed().as_secs_f64().max(1e-9);
        // Whoever wants the run to stop does not want to wait for this.
        let measured = match self.is_stopped() {
            true => Numbers::default(),
            false => {
                self.task.measure(self.step, self.step == self.schedule.end, &mut |reason| tell(Event::Warning(reason)))
            }
        };
        let is_measured = !measured.is_empty();
        let record = Record::new(self.step as u64)
            .with("epoch", self.step as f64 / self.schedule.per_epoch as f64)
            .with_all(numbers)
            .with("images_per_second", loaded.images as f64 / seconds)
            .with("seconds", self.books.earlier + self.start.elapsed().as_secs_f64())
            .with("data_wait", loaded.waited.as_secs_f64() / seconds)
            .with("skipped", self.task.seen().bad as u64)
            .with_all(measured);
        self.begun = Instant::now();
        tell(Event::Step(&record));
        if self.step.is_multiple_of(self.schedule.log_every) || self.step == self.schedule.end || is_measured {
            self.books.record(&record)?;
        }
        if self.settings.common().health.alarms {
            for alarm in self.task.alarms(&record) {
                tell(Event::Alarm(&alarm));
                self.books.alarm(&alarm)?;
            }
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.session.stop.load(Ordering::Relaxed)
    }

    fn due(&self) -> Due {
        let checkpoint = self.settings.common().checkpoint;
        let all = self.is_stopped() || self.step == self.schedule.end;
        let is_epoch = self.step.is_multiple_of(self.schedule.per_epoch * checkpoint.every_epochs);
        let minutes = checkpoint.every_minutes;
        let is_time = minutes > 0. && self.saved.elapsed().as_secs_f64() > 60. * minutes;
        Due { save: all || is_epoch || is_time, all }
    }

    fn moment(&self) -> Moment {
        Moment { step: self.step, images: self.task.images().len() }
    }

    /// Begins to write a checkpoint if one is due, and tells of the one that is done.
    fn save(&mut self, due: &Due, tell: &mut dyn FnMut(Event)) -> Result<(), Error> {
        let done = match due.save {
            true => self.saver.save(self.moment(), self.task.state()?)?,
            false => self.saver.done()?,
        };
        if let Some(path) = done {
            tell(Event::Saved(&path));
        }
        if !due.save {
            return Ok(());
        }
        self.saved = Instant::now();
        if let Some(watched) = &self.watched {
            // The run does not need it: a full disk shows itself by the checkpoint.
            let run = self.settings.common().folder;
            watched.save(run).unwrap_or_else(|e| tell(Event::Warning(e.to_string())));
            let changed = watched.take_changed();
            if !changed.is_empty() {
                let text = listed(&changed, "images with other bytes than when they were read before");
                tell(Event::Warning(format!("data.path: {text}")));
            }
        }
        Ok(())
    }

    /// Says what was left out of images: after the first epoch, and at the end.
    fn sum_up(&mut self, due: &Due, tell: &mut dyn FnMut(Event)) -> Result<(), Error> {
        let is_first = self.summed_up == 0 && self.step.is_multiple_of(self.schedule.per_epoch);
        if self.left_out.read <= self.summed_up || !(due.all || is_first) {
            return Ok(());
        }
        self.summed_up = self.left_out.read;
        for (what, line) in self.left_out.lines() {
            tell(Event::Notice(&line));
            let name = format!("all images until step {}, {what:?}", self.step);
            self.books.fault(self.step, &Fault { name, reason: line, bad: false, first: true })?;
        }
        Ok(())
    }

    /// Writes pictures and report when it is time.
    fn show(&mut self, due: &Due) -> Result<(), Error> {
        if due.all || self.pictured.elapsed() > PICTURES {
            self.task.pictures()?;
            self.pictured = Instant::now();
        }
        if due.all || self.reported.elapsed() > REPORT {
            self.report()?;
            self.reported = Instant::now();
        }
        Ok(())
    }

    fn report(&self) -> Result<(), Error> {
        let run = self.settings.common().folder;
        write_report(run, &T::SHEET).map_err(Error::io(run.join("report.html")))
    }

    /// Waits for the last checkpoint.
    fn close(&mut self, tell: &mut dyn FnMut(Event)) -> Result<Summary, Error> {
        if let Some(path) = self.saver.finish()? {
            tell(Event::Saved(&path));
        }
        let end = if self.step == self.schedule.end { End::Complete } else { End::Stopped(self.step) };
        Ok(self.schedule.summary(self.settings, end, self.step))
    }
}
