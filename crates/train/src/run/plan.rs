//! What changes over the steps of a run, and when it ends.

use crate::{Config, Hyper};
use selfpatch_losses::teacher_temperature;
use selfpatch_optim::Cosine;

/// Values over the steps of a run.
pub(super) struct Plan {
    /// Images of an epoch.
    pub images: usize,
    /// Steps at which the run ends.
    pub end: usize,
    /// Steps of all its epochs, `end` if `optim.max_steps` ends it no earlier.
    pub whole: usize,
    /// Steps of an epoch.
    pub per_epoch: usize,
    /// Steps between lines of the log.
    pub log_every: usize,
    lr: Cosine,
    weight_decay: Cosine,
    momentum: Cosine,
    temperature: (f64, f64, usize),
    patch_temperature: Option<f64>,
    freeze_epochs: usize,
}

impl Plan {
    pub fn new(config: &Config, per_epoch: usize, images: usize) -> Self {
        let (o, i) = (&config.optim, &config.image_loss);
        let steps = per_epoch * o.epochs;
        let lr = o.lr * o.batch_size as f64 / 256.; // reference: linear scaling rule
        let warmup = (o.warmup_epochs * per_epoch as f64).round() as usize;
        Self {
            images,
            end: steps.min(o.max_steps.unwrap_or(steps)),
            whole: steps,
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

    /// What step `step`, counted from 0, is done with.
    pub fn at(&self, step: usize) -> Hyper {
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
