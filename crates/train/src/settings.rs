//! What a step is done with: what changes from step to step, and what is fixed for a run.

use crate::network::{NetworkConfig, PatchTarget};
use crate::{Config, Error};
use selfpatch_losses::{At, Temperature};
use selfpatch_nn::Precision;
use selfpatch_nn::ops::Activations;
use selfpatch_optim::{Algorithm, Rules};

/// Values that change from step to step.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Hyper {
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Momentum of the teacher.
    pub momentum: f64,
    /// Temperature of the patch teacher.
    pub patch_teacher_temp: f64,
    /// Where in the run the step is.
    pub at: At,
}

/// Settings that are fixed for a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Shapes of both networks.
    pub network: NetworkConfig,
    /// Global views of an image.
    pub globals: usize,
    /// Weight of the patch loss.
    pub lambda: f64,
    /// How patch targets are made, one per crop size.
    pub targets: Vec<PatchTarget>,
    /// Temperature of the student.
    pub student_temp: f64,
    /// Temperature of the image teacher.
    pub teacher_temp: Temperature,
    /// Epochs during which the prototypes stay as they are.
    pub freeze_epochs: usize,
    /// Momentum of both centres.
    pub center_momentum: f64,
    /// Decay, clipping and learning rates of single parameters.
    pub rules: Rules,
    /// Stochastic depth of the student.
    pub drop_path_rate: f64,
    /// Which optimiser steps the parameters.
    pub algorithm: Algorithm,
    /// Parts in which the images of a step are taken; 1 for all at once.
    pub accumulate: usize,
    /// Which activations are kept for the backward pass.
    pub activations: Activations,
    /// Precision that layers and heads compute in; weights, losses and the optimiser stay in f32.
    pub precision: Precision,
    /// Seed of initial weights and stochastic depth.
    pub seed: u64,
}

impl Settings {
    /// The settings a configuration asks for.
    pub fn of(config: &Config) -> std::result::Result<Self, Error> {
        use crate::config::{Aggregation, ImageObjective};
        let ImageObjective::Dino(dino) = &config.objective;
        let targets = config
            .crop_sizes()
            .into_iter()
            .map(|size| {
                Ok(match (config.neighbours(size)?, config.patch_loss.aggregation) {
                    (Some((near, k)), Aggregation::ClassAttention) => PatchTarget::ClassAttention(near, k),
                    (Some((near, k)), _) => PatchTarget::Mean(near, k),
                    (None, _) => PatchTarget::Own,
                })
            })
            .collect::<std::result::Result<_, Error>>()?;
        Ok(Self {
            network: NetworkConfig::of(config)?,
            globals: config.crops.globals.len(),
            lambda: config.patch_loss.lambda,
            targets,
            student_temp: dino.student_temp,
            teacher_temp: config.teacher_temp(),
            freeze_epochs: config.optim.freeze_last_layer,
            center_momentum: dino.center_momentum,
            rules: config.rules(),
            drop_path_rate: config.model.drop_path_rate,
            algorithm: config.optim.optimizer,
            accumulate: config.optim.accumulate,
            activations: match config.optim.recompute {
                true => Activations::Recompute,
                false => Activations::Keep,
            },
            precision: config.optim.precision,
            seed: config.seed,
        })
    }
}
