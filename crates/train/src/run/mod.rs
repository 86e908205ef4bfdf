//! A whole run: data, steps, log, checkpoints, export.

mod folder;
mod history;
mod plan;
mod shapes;

pub use folder::Resume;
pub use history::{History, Overridden, Saved};

use crate::checkpoint::{self, Saver, Snapshot};
use crate::config::{NotFinite, Precision};
use crate::diagnose::diagnose;
use crate::estimate::{self, Estimate, Pace};
use crate::init::init_from;
use crate::inventory::{Watched, listed};
use crate::overlay::check_field;
use crate::place::PROCEDURAL;
use crate::telemetry::{Alarm, AlarmLog, EventWriter, FaultLog, LogWriter, Record, log, write_report};
use crate::{Alarms, Config, Error, Memory, Network, Settings, StepReport, Trainer, export, pixels, replay, views};
use candle_core::{DType, Device, Tensor};
use plan::Plan;
use selfpatch_datasets::{
    Access, Fault, ImageSource, LeftOut, Loader, LoaderConfig, ProceduralImages, Tally, batch_memory,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// What happens during a run, for whoever shows it.
pub enum Event<'a> {
    /// Before the first step.
    Start {
        /// Images of one epoch, without those that do not fill a batch.
        images: usize,
        /// Trainable numbers of the student.
        parameters: usize,
        /// What a step takes.
        memory: Memory,
        /// Bytes of the batches in preparation.
        prefetch: usize,
        /// Steps already finished by an earlier session.
        first_step: usize,
        /// Steps at which the run ends.
        steps: usize,
        /// Steps of one epoch.
        steps_per_epoch: usize,
    },
    /// When the first batch is there and before its step: how long the steps take that are left.
    Estimate(&'a Estimate),
    /// After each step.
    Step(&'a Record),
    /// After each checkpoint.
    Saved(&'a Path),
    /// Something is wrong with a sample; the first time that it is met.
    Fault(&'a Fault),
    /// The run looks ill.
    Alarm(&'a Alarm),
    /// Something that takes long before the first step.
    Notice(&'a str),
    /// Something the user should know that does not stop the run.
    Warning(String),
}

/// How a session of a run begins, and what ends it.
pub struct Session<'a> {
    /// Discard an earlier run in the same folder.
    pub overwrite: bool,
    /// Where to go on.
    pub resume: Resume,
    /// Fields that may differ from those of the checkpoint, such as `optim.lr`.
    pub overrides: &'a [String],
    /// How the user wrote what was asked for, for messages; may be empty.
    pub asked: &'a [Asked],
    /// Set by whoever wants the run to save and end after the step at hand.
    pub stop: &'a AtomicBool,
}

/// A setting as a user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Place of the field, such as `optim.lr`.
    pub field: String,
    /// The flag, such as `--lr`.
    pub flag: String,
    /// Its value, such as `1e-4`.
    pub value: String,
}

/// How the teacher is measured on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// J&F by label propagation through videos, 0 to 1 (`eval.davis`).
    Davis,
    /// Top-1 by nearest neighbours, 0 to 1 (`eval.knn`).
    Knn,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All steps are done that this session was asked for.
    Complete,
    /// They were done before.
    WasComplete,
    /// Told to stop, saved after this many steps.
    Stopped(usize),
}

/// What a run left.
pub struct Summary {
    /// The run's folder.
    pub folder: PathBuf,
    /// The exported backbone.
    pub backbone: PathBuf,
    /// How it ended.
    pub end: End,
    /// What is left of its epochs, where it was stopped or `optim.max_steps` ended it.
    pub cut: Option<Cut>,
}

/// A run that ended before its epochs did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Steps done.
    pub step: usize,
    /// Steps of all its epochs.
    pub of: usize,
}

/// Time between two writings of the report.
const REPORT: Duration = Duration::from_secs(30);

/// Time between two pictures of what the teacher sees, which take a second of a large network.
const PICTURES: Duration = Duration::from_secs(300);

/// Images whose first crop the report shows.
const SHOWN: usize = 4;

/// Trains as `config` says, or continues where an earlier session of the same run stopped.
///
/// Data and settings are checked before anything is written. `judge` measures the teacher whenever
/// `eval.davis` or `eval.knn` says so; if it cannot, the reason becomes a warning and training goes on.
pub fn run(
    config: &Config,
    session: &Session,
    device: &Device,
    judge: &mut dyn FnMut(Measure, &Network) -> Result<f64, String>,
    mut tell: impl FnMut(Event),
) -> Result<Summary, Error> {
    config.check()?;
    session.overrides.iter().try_for_each(|name| check_field(name))?;
    if device.is_cpu() && config.optim.precision != Precision::F32 {
        let text = "optim.precision: half precisions are for GPUs; on the CPU they are much slower than f32";
        tell(Event::Warning(text.into()));
    }
    let images = {
        let tell = std::cell::RefCell::new(&mut tell);
        source(config, &|text| (tell.borrow_mut())(Event::Notice(text)), &|| session.stop.load(Ordering::Relaxed))?
    };
    if device.is_cpu() {
        let made = LoaderConfig { ahead: config.data.prefetch, ..LoaderConfig::new(config.optim.batch_size, 0) };
        let prefetch = batch_memory(&config.crops, &config.data.decoding(), &made);
        // The order of an epoch, and what is known of each image.
        Memory::admit(config, prefetch.saturating_add(24 * images.len() as u64))?;
    }
    // Once without and once with the list of its images: what is wrong shows before the folder is touched.
    let unwatched = loader(config, Arc::clone(&images))?;
    let per_epoch = unwatched.steps_per_epoch();
    let plan = Plan::new(config, per_epoch, unwatched.images_per_epoch());
    drop(unwatched);
    let run = config.output_dir.clone();
    let mut trainer = Trainer::new(Settings::of(config)?, DType::F32, device)?;
    let begins = matches!(session.resume, Resume::Auto | Resume::Never)
        && (session.overwrite || checkpoint::list(&run)?.is_empty());
    if begins && !config.init_from.is_empty() {
        // Before an earlier run gives way: it may be the one that the weights are of.
        let begun = init_from(Path::new(&config.init_from), &trainer, &config.data)?;
        tell(Event::Notice(&begun.told));
        if let Some(images) = begun.images {
            tell(Event::Warning(images));
        }
    }
    let mut folder = folder::open(config, &*images, session, &mut |w| tell(Event::Warning(w)))?;
    let backbone = run.join("export").join("backbone.safetensors");
    let ended = |end, step| {
        let cut = (step < plan.whole).then_some(Cut { step, of: plan.whole });
        Ok(Summary { folder: run.clone(), backbone: backbone.clone(), end, cut })
    };

    let first = match &folder.found {
        Some(found) => checkpoint::restore(found, &mut trainer).inspect_err(|_| folder.leave())?,
        None => 0,
    };
    let is_complete = first >= plan.end;
    // Nothing is trained: the settings stay those that the run was trained with.
    if !is_complete || folder.branches {
        folder.begin(config, &*images)?;
    }
    if is_complete {
        let made_with = folder.found.as_ref().filter(|_| !folder.branches).map_or(config, |found| &found.config);
        // Whatever ended the session that came this far may have come between the checkpoint and these.
        export::export(&run, made_with, &trainer.teacher_params.tensors())?;
        write_report(&run).map_err(Error::io(run.join("report.html")))?;
        return ended(End::WasComplete, first);
    }
    let watched = folder.inventory.take().map(|known| Arc::new(Watched::new(Arc::clone(&images), known)));
    let images = watched.clone().map_or(images, |watched| watched as Arc<dyn ImageSource>);
    let loader = loader(config, images)?;
    log::truncate_after(&run, first as u64)?;
    let earlier = log::read(&run)?.last().map_or(0., |r| r.seconds);
    let mut log = LogWriter::append(&run)?;
    let mut faults = FaultLog::append(&run)?;
    let mut alarm_log = AlarmLog::append(&run, first as u64)?;
    let mut alarms = Alarms::new(config);
    let board = run.join("tb");
    let mut board = match first {
        0 => EventWriter::create(&board),
        step => EventWriter::resume(&board, step as i64 + 1),
    }
    .map_err(Error::io(&board))?;
    let parameters = trainer.student_params.iter().map(|(_, v)| v.elem_count()).sum();
    tell(Event::Start {
        images: plan.images,
        parameters,
        memory: Memory::of(config, parameters)?,
        prefetch: loader.memory(),
        first_step: first,
        steps: plan.end,
        steps_per_epoch: per_epoch,
    });

    let rate = estimate::rate(config, &trainer, device)?;
    let mut estimated = false;

    let milestone = Some(config.checkpoint.milestone_epochs * per_epoch).filter(|steps| *steps > 0);
    let mut saver = Saver::new(config, milestone);
    let start = Instant::now();
    let (mut saved, mut reported, mut pictured) = (start, start, start);
    let (mut step, mut skipped) = (first, 0);
    // The same crops all the time: what the teacher makes of them changes visibly.
    let mut shown: Option<Tensor> = None;
    let (mut left_out, mut summed_up) = (Tally::default(), 0);
    let mut begun = Instant::now();
    while step < plan.end {
        let epoch = step / per_epoch;
        let mut batches = loader.epoch(epoch as u64, step % per_epoch);
        let mut waited = batches.waited();
        while let Some(batch) = batches.next() {
            let batch = batch?;
            for fault in batch.faults.iter().filter(|f| f.first) {
                tell(Event::Fault(fault));
                faults.write(step, fault)?;
            }
            for fault in left_out_first(&loader, &mut left_out) {
                tell(Event::Fault(&fault));
                faults.write(step, &fault)?;
            }
            let hyper = plan.at(step);
            let wait = (batches.waited() - waited).as_secs_f64();
            waited = batches.waited();
            if !std::mem::replace(&mut estimated, true) {
                let pace = Pace { rate, first_batch: wait, on_cpu: device.is_cpu() };
                tell(Event::Estimate(&Estimate::of(config, &pace, plan.end, plan.end - first)?));
            }
            let crops = pixels::crops(&batch, &config.crop_sizes(), (&config.data.mean, &config.data.std), device)?;
            if shown.is_none() {
                shown = Some(crops[0].narrow(0, 0, batch.batch.min(SHOWN))?.force_contiguous()?);
            }
            let report = match trainer.step(&crops, batch.batch, step, &hyper) {
                Ok(report) => {
                    skipped = 0;
                    report
                }
                Err(error) if error.is_not_finite() => {
                    skipped += 1;
                    let stop = config.health.not_finite == NotFinite::Stop || skipped > config.health.most_skipped;
                    if stop {
                        // The state before this step is sound, and comes first: none of it is lost.
                        saver.save(Snapshot::of(&trainer, step, loader.images())?)?;
                        saver.finish()?;
                    }
                    let names: Vec<String> = batch.ids.iter().map(|&id| loader.name(id)).collect();
                    let place = diagnose(&trainer, &crops, &names, &hyper, &error)?;
                    let file = replay::write(config, &trainer, (step, &crops, &names), &hyper)?;
                    let text = format!("{error}; {place}; kept in {}", file.display());
                    let alarm = Alarm { step: step as u64, kind: "not-finite".into(), text };
                    tell(Event::Alarm(&alarm));
                    alarm_log.write(&alarm)?;
                    if stop {
                        write_report(&run).map_err(Error::io(run.join("report.html")))?;
                        return Err(Error::Sick { what: Box::new(error), place, replay: file });
                    }
                    nothing_of(&error)
                }
                Err(e) => return Err(e),
            };
            step += 1;
            let seconds = begun.elapsed().as_secs_f64().max(1e-9);
            let mut measured = |what: Measure, name: &str, every: usize| {
                // Whoever wants the run to stop does not want to wait for this.
                let wanted = every > 0 && !session.stop.load(Ordering::Relaxed);
                let is_due = wanted && (step.is_multiple_of(every * per_epoch) || step == plan.end);
                let outcome = is_due.then(|| judge(what, trainer.teacher()))?;
                outcome.map_err(|reason| tell(Event::Warning(format!("{name}: {reason}")))).ok()
            };
            let davis_jf = measured(Measure::Davis, "eval.davis", config.eval.davis.every);
            let knn_top1 = measured(Measure::Knn, "eval.knn", config.eval.knn.every);
            let health = report.health;
            let record = Record {
                step: step as u64,
                epoch: step as f64 / per_epoch as f64,
                train_loss: report.losses[0],
                train_clsloss: report.losses[1],
                train_patchloss: report.losses[2],
                train_lr: hyper.lr,
                train_wd: hyper.weight_decay,
                momentum: hyper.momentum,
                images_per_second: batch.batch as f64 / seconds,
                seconds: earlier + start.elapsed().as_secs_f64(),
                teacher_entropy: Some(report.teacher_entropy),
                data_wait: Some(wait / seconds),
                skipped: Some(loader.bad().len() as u64),
                davis_jf,
                knn_top1,
                grad_norm: Some(report.grad_norm).filter(|_| !report.overflow),
                loss_scale: report.loss_scale,
                overflow: report.overflow.then_some(true),
                teacher_student_kl: Some(report.losses[1] - report.teacher_entropy),
                prototypes_used: Some(health.prototypes_used),
                feature_std: Some(health.feature_std),
                feature_rank: Some(health.feature_rank),
                patch_agreement: Some(health.patch_agreement).filter(|_| config.patch_loss.lambda > 0.),
            };
            begun = Instant::now();
            tell(Event::Step(&record));
            if step.is_multiple_of(plan.log_every) || step == plan.end || davis_jf.or(knn_top1).is_some() {
                log.write(&record)?;
                scalars(&mut board, &record).map_err(Error::io(run.join("tb")))?;
            }
            if config.health.alarms {
                for alarm in alarms.observe(&record) {
                    tell(Event::Alarm(&alarm));
                    alarm_log.write(&alarm)?;
                }
            }
            let stopped = session.stop.load(Ordering::Relaxed);
            let epoch_end = step.is_multiple_of(per_epoch * config.checkpoint.every_epochs);
            let minutes = config.checkpoint.every_minutes;
            let is_time = minutes > 0. && saved.elapsed().as_secs_f64() > 60. * minutes;
            if epoch_end || is_time || stopped || step == plan.end {
                if let Some(path) = saver.save(Snapshot::of(&trainer, step, loader.images())?)? {
                    tell(Event::Saved(&path));
                }
                saved = Instant::now();
                if let Some(watched) = &watched {
                    // Training does not need it: a full disk shows itself by the checkpoint.
                    watched.save(&run).unwrap_or_else(|e| tell(Event::Warning(e.to_string())));
                    let changed = watched.take_changed();
                    if !changed.is_empty() {
                        let text = listed(&changed, "images with other bytes than when they were read before");
                        tell(Event::Warning(format!("data.path: {text}")));
                    }
                }
            } else if let Some(path) = saver.done()? {
                tell(Event::Saved(&path));
            }
            let all_done = stopped || step == plan.end;
            if left_out.read > summed_up && (all_done || (summed_up == 0 && step.is_multiple_of(per_epoch))) {
                summed_up = left_out.read;
                for (what, line) in left_out.lines() {
                    tell(Event::Notice(&line));
                    let name = format!("all images until step {step}, {what:?}");
                    faults.write(step, &Fault { name, reason: line, bad: false, first: true })?;
                }
            }
            if let Some(shown) = shown.as_ref().filter(|_| all_done || pictured.elapsed() > PICTURES) {
                views::write(&run, &trainer, shown, config)?;
                pictured = Instant::now();
            }
            if all_done || reported.elapsed() > REPORT {
                write_report(&run).map_err(Error::io(run.join("report.html")))?;
                reported = Instant::now();
            }
            if all_done {
                if let Some(path) = saver.finish()? {
                    tell(Event::Saved(&path));
                }
                return ended(if step == plan.end { End::Complete } else { End::Stopped(step) }, step);
            }
        }
    }
    ended(End::Complete, step)
}

/// The first image of each kind of which something was left out since `told`, which becomes the state of now.
fn left_out_first(loader: &Loader, told: &mut Tally) -> Vec<Fault> {
    let now = loader.tally();
    let fault = |(id, kinds): (usize, Vec<LeftOut>)| {
        let kinds: Vec<&str> = kinds.into_iter().map(LeftOut::of_one).collect();
        let reason = format!("{}; others like it are counted", kinds.join("; "));
        Fault { name: loader.name(id), reason, bad: false, first: true }
    };
    let new = now.new_since(told).into_iter().map(fault).collect();
    *told = now;
    new
}

/// The numbers of a step that was left out.
fn nothing_of(error: &Error) -> StepReport {
    let losses = match error {
        Error::NotFinite { class, patch, .. } => [f64::NAN, *class, *patch],
        _ => [f64::NAN; 3],
    };
    let nan = f64::NAN;
    let health = crate::Health { prototypes_used: nan, feature_std: nan, feature_rank: nan, patch_agreement: nan };
    StepReport { losses, teacher_entropy: nan, grad_norm: nan, health, ..StepReport::default() }
}

/// The images that a run reads. `say` is told what takes long, which ends in an error once `stop` says so.
pub fn source(config: &Config, say: &dyn Fn(&str), stop: &dyn Fn() -> bool) -> Result<Arc<dyn ImageSource>, Error> {
    let data = &config.data;
    if data.path == PROCEDURAL {
        return Ok(Arc::new(ProceduralImages::new(config.seed, data.procedural_images, data.procedural_size)));
    }
    let (video_fps, video_dedup) = (data.video_fps.per_second(), data.video_dedup);
    let access = Access { video_fps, video_dedup, say, stop, ..Access::usual() };
    Ok(selfpatch_datasets::open(&data.path, &access)?)
}

/// The data as batches of crops.
fn loader(config: &Config, source: Arc<dyn ImageSource>) -> Result<Loader, Error> {
    let data = &config.data;
    let settings = LoaderConfig {
        threads: data.workers,
        ahead: data.prefetch,
        drop_last: data.drop_last,
        max_bad: data.max_bad,
        pillow: data.resizing(),
        ..LoaderConfig::new(config.optim.batch_size, config.seed)
    };
    Ok(Loader::new(source, config.crops.clone(), data.decoding(), settings)?)
}

fn scalars(board: &mut EventWriter, r: &Record) -> std::io::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0., |d| d.as_secs_f64());
    let mut values: Vec<(&str, f32)> = [
        ("train_loss", r.train_loss),
        ("train_clsloss", r.train_clsloss),
        ("train_patchloss", r.train_patchloss),
        ("train_lr", r.train_lr),
        ("train_wd", r.train_wd),
        ("images_per_second", r.images_per_second),
        ("skipped", r.skipped.unwrap_or(0) as f64),
    ]
    .map(|(tag, value)| (tag, value as f32))
    .to_vec();
    for (tag, value) in [
        ("teacher_entropy", r.teacher_entropy),
        ("data_wait", r.data_wait),
        ("davis_jf", r.davis_jf),
        ("knn_top1", r.knn_top1),
        ("grad_norm", r.grad_norm),
        ("loss_scale", r.loss_scale),
        ("teacher_student_kl", r.teacher_student_kl),
        ("prototypes_used", r.prototypes_used),
        ("feature_std", r.feature_std),
        ("feature_rank", r.feature_rank),
        ("patch_agreement", r.patch_agreement),
    ] {
        values.extend(value.map(|value| (tag, value as f32)));
    }
    board.scalars(r.step as i64, now, &values)
}
