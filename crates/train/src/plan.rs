//! What changes over the steps of a run.

use crate::{Config, Hyper};
use selfpatch_losses::{At, Temperature};
use selfpatch_optim::Cosine;

/// Values over the steps of a run.
pub(crate) struct Plan {
    per_epoch: usize,
    lr: Cosine,
    weight_decay: Cosine,
    momentum: Cosine,
    temperature: Temperature,
    patch_temperature: Option<f64>,
}

impl Plan {
    /// The plan of a run with so many steps per epoch.
    pub fn new(config: &Config, per_epoch: usize) -> Self {
        let o = &config.optim;
        let steps = per_epoch * o.epochs;
        let lr = o.lr * o.batch_size as f64 / 256.; // reference: linear scaling rule
        let warmup = (o.warmup_epochs * per_epoch as f64).round() as usize;
        Self {
            per_epoch,
            lr: Cosine::new(lr, o.min_lr, steps).with_warmup(warmup),
            weight_decay: Cosine::new(o.weight_decay, o.weight_decay_end, steps),
            momentum: Cosine::new(o.momentum_teacher, 1., steps),
            temperature: config.teacher_temp(),
            patch_temperature: config.patch_loss.teacher_temp,
        }
    }

    /// The values of step `step`, counted from 0.
    pub fn at(&self, step: usize) -> Hyper {
        let epoch = step / self.per_epoch;
        Hyper {
            lr: self.lr.at(step),
            weight_decay: self.weight_decay.at(step),
            momentum: self.momentum.at(step),
            patch_teacher_temp: self.patch_temperature.unwrap_or_else(|| self.temperature.at(epoch)),
            at: At { step, epoch },
        }
    }
}
