//! A whole run: data, steps, log, checkpoints, export.

use crate::telemetry::{EventWriter, FaultLog, LogWriter, Record, log, replace_file, write_report};
use crate::{Config, Error, Hyper, Memory, Network, Settings, Trainer, checkpoint, export, pixels};
use candle_core::{DType, Device};
use selfpatch_datasets::{Access, Fault, ImageSource, Loader, LoaderConfig, ProceduralImages};
use selfpatch_losses::teacher_temperature;
use selfpatch_optim::Cosine;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

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
    /// After each step.
    Step(&'a Record),
    /// After each checkpoint.
    Saved(&'a Path),
    /// Something is wrong with a sample; the first time that it is met.
    Fault(&'a Fault),
    /// Something that takes long before the first step.
    Notice(&'a str),
    /// Something the user should know that does not stop the run.
    Warning(String),
}

/// How the teacher is measured on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// J&F by label propagation through videos, 0 to 1 (`eval.davis`).
    Davis,
    /// Top-1 by nearest neighbours, 0 to 1 (`eval.knn`).
    Knn,
}

/// What a run left.
pub struct Summary {
    /// The run's folder.
    pub folder: PathBuf,
    /// The exported backbone.
    pub backbone: PathBuf,
    /// Whether there was nothing left to do.
    pub was_complete: bool,
}

/// Trains as `config` says, or continues where an earlier session of the same run stopped.
///
/// `overwrite` discards an earlier run in the same folder. Data and settings are checked before
/// anything is written. `judge` measures the teacher whenever `eval.davis` or `eval.knn` says so; if it
/// cannot, the reason becomes a warning and training goes on.
pub fn run(
    config: &Config,
    overwrite: bool,
    device: &Device,
    judge: &mut dyn FnMut(Measure, &Network) -> Result<f64, String>,
    mut tell: impl FnMut(Event),
) -> Result<Summary, Error> {
    config.check()?;
    let loader = loader(config, &mut tell)?;
    let per_epoch = loader.steps_per_epoch();
    let plan = Plan::new(config, per_epoch, loader.images_per_epoch());
    let folder = config.output_dir.clone();
    let mut trainer = Trainer::new(Settings::of(config)?, DType::F32, device)?;
    open_folder(config, &folder, overwrite)?;
    let backbone = folder.join("export").join("backbone.safetensors");

    let restored = checkpoint::restore_newest(&folder, &mut trainer, |w| tell(Event::Warning(w)))?;
    let first = restored.unwrap_or(0);
    if first >= plan.end {
        return Ok(Summary { folder, backbone, was_complete: true });
    }
    log::truncate_after(&folder, first as u64)?;
    let earlier = log::read(&folder)?.last().map_or(0., |r| r.seconds);
    let mut log = LogWriter::append(&folder)?;
    let mut faults = FaultLog::append(&folder)?;
    let board = folder.join("tb");
    let mut board = match restored {
        Some(step) => EventWriter::resume(&board, step as i64 + 1),
        None => EventWriter::create(&board),
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

    let start = Instant::now();
    let mut step = first;
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
            let hyper = plan.at(step);
            let wait = (batches.waited() - waited).as_secs_f64();
            waited = batches.waited();
            let crops = pixels::crops(&batch, &config.crop_sizes(), (&config.data.mean, &config.data.std), device)?;
            let report = trainer.step(&crops, batch.batch, step, &hyper)?;
            step += 1;
            let seconds = begun.elapsed().as_secs_f64().max(1e-9);
            let mut measured = |what: Measure, name: &str, every: usize| {
                let is_due = every > 0 && (step.is_multiple_of(every * per_epoch) || step == plan.end);
                let outcome = is_due.then(|| judge(what, trainer.teacher()))?;
                outcome.map_err(|reason| tell(Event::Warning(format!("{name}: {reason}")))).ok()
            };
            let davis_jf = measured(Measure::Davis, "eval.davis", config.eval.davis.every);
            let knn_top1 = measured(Measure::Knn, "eval.knn", config.eval.knn.every);
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
                ..Record::default()
            };
            begun = Instant::now();
            tell(Event::Step(&record));
            if step.is_multiple_of(plan.log_every) || step == plan.end || davis_jf.or(knn_top1).is_some() {
                log.write(&record)?;
                scalars(&mut board, &record).map_err(Error::io(folder.join("tb")))?;
            }
            if step == plan.end {
                break;
            }
        }
        if (epoch + 1).is_multiple_of(config.checkpoint.every_epochs) || step == plan.end {
            let path = checkpoint::save(&folder, config, &trainer, step)?;
            export::export(&folder, config, &trainer)?;
            write_report(&folder).map_err(Error::io(folder.join("report.html")))?;
            tell(Event::Saved(&path));
        }
    }
    Ok(Summary { folder, backbone, was_complete: false })
}

/// Values over the steps of a run.
struct Plan {
    images: usize,
    end: usize,
    per_epoch: usize,
    log_every: usize,
    lr: Cosine,
    weight_decay: Cosine,
    momentum: Cosine,
    temperature: (f64, f64, usize),
    patch_temperature: Option<f64>,
    freeze_epochs: usize,
}

impl Plan {
    fn new(config: &Config, per_epoch: usize, images: usize) -> Self {
        let (o, i) = (&config.optim, &config.image_loss);
        let steps = per_epoch * o.epochs;
        let lr = o.lr * o.batch_size as f64 / 256.; // reference: linear scaling rule
        let warmup = (o.warmup_epochs * per_epoch as f64).round() as usize;
        Self {
            images,
            end: steps.min(o.max_steps.unwrap_or(steps)),
            per_epoch,
            log_every: (steps / 20_000).max(1),
            lr: Cosine::new(lr, o.min_lr, steps).with_warmup(warmup),
            weight_decay: Cosine::new(o.weight_decay, o.weight_decay_end, steps),
            momentum: Cosine::new(o.momentum_teacher, 1., steps),
            temperature: (i.warmup_teacher_temp, i.teacher_temp, i.warmup_teacher_temp_epochs),
            patch_temperature: config.patch_loss.teacher_temp,
            freeze_epochs: o.freeze_last_layer,
        }
    }

    fn at(&self, step: usize) -> Hyper {
        let epoch = step / self.per_epoch;
        let (from, to, epochs) = self.temperature;
        let teacher_temp = teacher_temperature(from, to, epochs, epoch);
        Hyper {
            lr: self.lr.at(step),
            weight_decay: self.weight_decay.at(step),
            momentum: self.momentum.at(step),
            teacher_temp,
            patch_teacher_temp: self.patch_temperature.unwrap_or(teacher_temp),
            freeze_last_layer: epoch < self.freeze_epochs,
        }
    }
}

/// The images that a run reads. `say` is told what takes long.
pub fn source(config: &Config, say: &dyn Fn(&str)) -> Result<Arc<dyn ImageSource>, Error> {
    let data = &config.data;
    if data.path == "procedural" {
        return Ok(Arc::new(ProceduralImages::new(config.seed, data.procedural_images, data.procedural_size)));
    }
    let access = Access { video_fps: data.video_fps, say, ..Access::usual() };
    Ok(selfpatch_datasets::open(&data.path, &access)?)
}

/// The data as batches of crops.
fn loader(config: &Config, tell: &mut impl FnMut(Event)) -> Result<Loader, Error> {
    let data = &config.data;
    let tell = std::cell::RefCell::new(tell);
    let source = source(config, &|text| (tell.borrow_mut())(Event::Notice(text)))?;
    let settings = LoaderConfig {
        threads: data.workers,
        ahead: data.prefetch,
        drop_last: data.drop_last,
        max_bad: data.max_bad,
        ..LoaderConfig::new(config.optim.batch_size, config.seed)
    };
    Ok(Loader::new(source, config.crops.clone(), data.decoding(), settings)?)
}

/// What a run keeps in its folder.
const ENTRIES: [&str; 7] = ["config.toml", "log.jsonl", "faults.jsonl", "report.html", "tb", "checkpoints", "export"];

/// Makes the run's folder, or makes sure that an existing one belongs to the same configuration.
/// What an earlier run left there is removed if `overwrite` says so or if it has no checkpoint;
/// nothing else is.
fn open_folder(config: &Config, folder: &Path, overwrite: bool) -> Result<(), Error> {
    let file = folder.join("config.toml");
    if file.exists() {
        let text = fs::read_to_string(&file).map_err(Error::io(&file))?;
        let mut saved = Config::parse(&file, &text)?;
        // A run that never came to a checkpoint has nothing to lose or to continue.
        if overwrite || !folder.join("checkpoints").exists() {
            remove_run(folder)?;
        } else {
            // These change neither the result nor the meaning of what is saved.
            saved.data.workers = config.data.workers;
            saved.data.prefetch = config.data.prefetch;
            saved.data.max_bad = config.data.max_bad;
            saved.checkpoint = config.checkpoint.clone();
            saved.eval = config.eval.clone();
            saved.output_dir = config.output_dir.clone();
            saved.optim.max_steps = config.optim.max_steps;
            saved.optim.recompute = config.optim.recompute;
            let differences = saved.differences(config)?;
            if !differences.is_empty() {
                return Err(Error::OtherRun { path: folder.into(), differences: differences.join(", ") });
            }
        }
    } else if folder.is_dir() && fs::read_dir(folder).map_err(Error::io(folder))?.next().is_some() {
        return Err(Error::File {
            path: folder.into(),
            reason: "is not empty and holds no run; choose another --output-dir".into(),
        });
    }
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    replace_file(&file, config.to_toml()?.as_bytes()).map_err(Error::io(&file))
}

fn remove_run(folder: &Path) -> Result<(), Error> {
    // The configuration goes last: a removal that is cut short still leaves a recognisable run.
    for path in ENTRIES.iter().rev().map(|name| folder.join(name)) {
        match path.is_dir() {
            true => fs::remove_dir_all(&path).map_err(Error::io(&path))?,
            false if path.exists() => fs::remove_file(&path).map_err(Error::io(&path))?,
            false => {}
        }
    }
    Ok(())
}

fn scalars(board: &mut EventWriter, r: &Record) -> std::io::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0., |d| d.as_secs_f64());
    for (name, value) in [("davis_jf", r.davis_jf), ("knn_top1", r.knn_top1)] {
        if let Some(value) = value {
            board.scalars(r.step as i64, now, &[(name, value as f32)])?;
        }
    }
    board.scalars(
        r.step as i64,
        now,
        &[
            ("train_loss", r.train_loss as f32),
            ("train_clsloss", r.train_clsloss as f32),
            ("train_patchloss", r.train_patchloss as f32),
            ("train_lr", r.train_lr as f32),
            ("train_wd", r.train_wd as f32),
            ("images_per_second", r.images_per_second as f32),
            ("teacher_entropy", r.teacher_entropy.unwrap_or(f64::NAN) as f32),
            ("data_wait", r.data_wait.unwrap_or(f64::NAN) as f32),
            ("skipped", r.skipped.unwrap_or(0) as f32),
        ],
    )
}
