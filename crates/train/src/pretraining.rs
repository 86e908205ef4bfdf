//! Pre-training as a task of the crate `run`.

use crate::diagnose::diagnose;
use crate::estimate::{self, Pace};
use crate::plan::Plan;
use crate::{
    Alarms, Config, Error, Memory, Network, SHEET, Settings, StepReport, Trainer, export, pixels, replay, views,
};
use candle_core::{DType, Device, Tensor};
use selfpatch_datasets::{Batch, Crops, ImageSource, Loader};
use selfpatch_figures::words::scaled;
use selfpatch_run::{
    Alarm, Batches, Estimate, Event, Explained, Found, Numbers, Record, Seen, Sheet, State, StepError, Task, loaded,
};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How the teacher is measured on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// J&F by label propagation through videos, 0 to 1 (`eval.davis`).
    Davis,
    /// Top-1 by nearest neighbours, 0 to 1 (`eval.knn`).
    Knn,
}

/// Measures a teacher; if that cannot be done, the reason becomes a warning and training goes on.
pub type Judge<'a> = &'a mut dyn FnMut(Measure, &Network) -> Result<f64, String>;

/// Images whose first crop the report shows.
const SHOWN: usize = 4;

/// A pre-training: data, networks, schedules.
pub(crate) struct Pretraining<'a> {
    config: &'a Config,
    images: Arc<dyn ImageSource>,
    loader: Loader,
    plan: Plan,
    pub trainer: Trainer,
    judge: Judge<'a>,
    alarms: Alarms,
    /// FLOPs per second, measured before the first step.
    rate: f64,
    /// Crops that every report shows: what the teacher makes of them changes visibly.
    shown: Option<Tensor>,
    device: Device,
}

impl<'a> Pretraining<'a> {
    /// Pre-training as `config` says, on `images`, before the first step.
    pub fn new(
        config: &'a Config,
        images: Arc<dyn ImageSource>,
        device: &Device,
        judge: Judge<'a>,
    ) -> Result<Self, Error> {
        let loader = crate::data::loader(config, Arc::clone(&images))?;
        Ok(Self {
            plan: Plan::new(config, loader.steps_per_epoch()),
            trainer: Trainer::new(Settings::of(config)?, DType::F32, device)?,
            alarms: Alarms::new(config),
            rate: 0.,
            shown: None,
            device: device.clone(),
            config,
            images,
            loader,
            judge,
        })
    }

    fn crops(&self, batch: &Batch<Crops>) -> Result<Vec<Tensor>, Error> {
        let (data, sizes) = (&self.config.data, self.config.crop_sizes());
        Ok(pixels::crops(&batch.views, &sizes, (&data.mean, &data.std), &self.device)?)
    }

    fn numbers(&self, report: &StepReport, step: usize) -> Numbers {
        let hyper = self.plan.at(step);
        let numbers = Numbers::default()
            .with("train_loss", report.losses[0])
            .with("train_clsloss", report.losses[1])
            .with("train_patchloss", report.losses[2])
            .with("train_lr", hyper.lr)
            .with("train_wd", hyper.weight_decay)
            .with("momentum", hyper.momentum)
            .with_some("grad_norm", Some(report.grad_norm).filter(|_| !report.overflow))
            .with_some("loss_scale", report.loss_scale)
            .with_some("overflow", report.overflow.then_some(true));
        report.numbers.iter().fold(numbers, |numbers, (name, value)| numbers.with(*name, *value))
    }
}

impl Task for Pretraining<'_> {
    type Settings = Config;
    type Batch = Batch<Crops>;

    const SHEET: Sheet = SHEET;

    fn images(&self) -> Arc<dyn ImageSource> {
        Arc::clone(&self.images)
    }

    fn images_per_epoch(&self) -> usize {
        self.loader.images_per_epoch()
    }

    fn steps_per_epoch(&self) -> usize {
        self.loader.steps_per_epoch()
    }

    fn about(&self) -> Result<Vec<String>, Error> {
        let parameters = self.trainer.student_params.iter().map(|(_, v)| v.elem_count()).sum();
        let memory = Memory::of(self.config, parameters)?.total().saturating_add(self.loader.memory() as u64);
        let parameters = scaled(parameters as f64, " parameters");
        Ok(vec![format!("{parameters}, about {} of memory", scaled(memory as f64, "B"))])
    }

    fn prepare(
        &mut self,
        images: Arc<dyn ImageSource>,
        _stop: &AtomicBool,
        _tell: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        self.loader = crate::data::loader(self.config, images)?;
        self.rate = estimate::rate(self.config, &self.trainer, &self.device)?;
        Ok(())
    }

    fn epoch(&self, epoch: u64, first: usize) -> Batches<Batch<Crops>> {
        loaded(self.loader.epoch(epoch, first), |batch| batch)
    }

    fn seen(&self) -> Seen {
        Seen { bad: self.loader.bad().len(), left_out: self.loader.tally() }
    }

    fn estimate(&self, first_batch: f64, steps: usize, left: usize) -> Result<Option<Estimate>, Error> {
        let pace = Pace { rate: self.rate, first_batch, on_cpu: self.device.is_cpu() };
        Ok(Some(pace.estimate(self.config, steps, left)?))
    }

    fn step(&mut self, batch: &Batch<Crops>, step: usize) -> Result<Numbers, StepError> {
        let crops = self.crops(batch)?;
        if self.shown.is_none() {
            self.shown = Some(crops[0].narrow(0, 0, batch.images().min(SHOWN))?.force_contiguous()?);
        }
        match self.trainer.step(&crops, batch.images(), step, &self.plan.at(step)) {
            Ok(report) => Ok(self.numbers(&report, step)),
            Err(error) if error.is_non_finite() => {
                Err(StepError::NonFinite { numbers: self.numbers(&nothing_of(&error), step), error })
            }
            Err(error) => Err(StepError::Failed(error)),
        }
    }

    fn explain(&mut self, batch: &Batch<Crops>, step: usize, error: &Error) -> Result<Explained, Error> {
        let (crops, hyper) = (self.crops(batch)?, self.plan.at(step));
        let names: Vec<String> = batch.ids.iter().map(|&id| self.images.name(id)).collect();
        let place = diagnose(&self.trainer, &crops, &names, &hyper, error)?;
        let file = replay::write(self.config, &self.trainer, (step, &crops, &names), &hyper)?;
        let advice = format!(
            "Start again with a lower optim.lr or a higher objective.teacher_temp, under another --name or with \
             --overwrite; `cargo xtask replay {}` repeats the step",
            file.display()
        );
        Ok(Explained { place, kept: Some(file), advice })
    }

    fn measure(&mut self, step: usize, is_last: bool, warn: &mut dyn FnMut(String)) -> Numbers {
        let per_epoch = self.loader.steps_per_epoch();
        let eval = &self.config.eval;
        let all = [
            (Measure::Davis, "eval.davis", "davis_jf", eval.davis.every),
            (Measure::Knn, "eval.knn", "knn_top1", eval.knn.every),
        ];
        let mut numbers = Numbers::default();
        for (what, field, name, every) in all {
            if every == 0 || !(step.is_multiple_of(every * per_epoch) || is_last) {
                continue;
            }
            match (self.judge)(what, self.trainer.teacher()) {
                Ok(value) => numbers.set(name, value),
                Err(reason) => warn(format!("{field}: {reason}")),
            }
        }
        numbers
    }

    fn alarms(&mut self, record: &Record) -> Vec<Alarm> {
        self.alarms.observe(record)
    }

    fn pictures(&self) -> Result<(), Error> {
        match &self.shown {
            Some(shown) => views::write(&self.config.output_dir, &self.trainer, shown, self.config),
            None => Ok(()),
        }
    }

    fn state(&self) -> Result<State, Error> {
        Ok(self.trainer.state(export::metadata(self.config)?)?)
    }

    fn restore(&mut self, found: &Found<Config>) -> Result<(), Error> {
        self.trainer.restore(found)
    }

    fn export(config: &Config, state: &State) -> Result<(), Error> {
        export::export(&config.output_dir, config, state.tensors("teacher"))
    }
}

/// The numbers of a step that was left out.
fn nothing_of(error: &Error) -> StepReport {
    let mut losses = [f64::NAN; 3];
    if let Error::NonFinite { losses: parts, .. } = error {
        losses[1..].iter_mut().zip(parts).for_each(|(loss, (_, value))| *loss = *value);
    }
    StepReport { losses, grad_norm: f64::NAN, ..StepReport::default() }
}
