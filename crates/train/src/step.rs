//! One training step: teacher, student, loss, gradients, optimiser, average.

use crate::network::{Logits, Network, NetworkConfig, Target, Targets};
use crate::report::{Numbers, StepReport};
use crate::{Config, Error, Scaler};
use candle_core::{DType, Device, Result, Tensor, Var, bail};
use selfpatch_losses::{CropGroup, Dino, PatchLoss};
use selfpatch_nn::ops::{Activations, Survivals};
use selfpatch_nn::random::{Purpose, stream};
use selfpatch_nn::transfer::{self, Parcel};
use selfpatch_nn::{Gradients, Params, Precision, Survival, autocast, backward};
use selfpatch_optim::{Algorithm, Norms, Optimizer, Step, ema};
use selfpatch_vit::{Group, Pass, Patches};
use std::ops::Range;

/// What changes from step to step.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Hyper {
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Momentum of the teacher.
    pub momentum: f64,
    /// Temperature of the image teacher.
    pub teacher_temp: f64,
    /// Temperature of the patch teacher.
    pub patch_teacher_temp: f64,
    /// Whether the prototypes (`last_layer`) stay as they are in this step.
    pub freeze_last_layer: bool,
}

/// What is fixed for a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Shapes of both networks.
    pub network: NetworkConfig,
    /// Weight of the patch loss.
    pub lambda: f64,
    /// How patch targets are made, one per crop size.
    pub targets: Vec<Target>,
    /// Temperature of the student.
    pub student_temp: f64,
    /// Momentum of both centres.
    pub center_momentum: f64,
    /// Largest norm of a gradient tensor; 0 for no clipping.
    pub clip: f64,
    /// Stochastic depth of the student.
    pub drop_path_rate: f64,
    /// Which optimiser.
    pub algorithm: Algorithm,
    /// Parts in which the images of a step are taken; 1 for all at once.
    pub accumulate: usize,
    /// What is kept for the backward pass.
    pub activations: Activations,
    /// What layers and heads compute in; weights, losses and the optimiser stay in f32.
    pub precision: Precision,
    /// Seed of initial weights and stochastic depth.
    pub seed: u64,
}

impl Settings {
    /// The settings a configuration asks for.
    pub fn of(config: &Config) -> std::result::Result<Self, Error> {
        use crate::config::Aggregation;
        let targets = config
            .crop_sizes()
            .into_iter()
            .map(|size| {
                Ok(match (config.neighbours(size)?, config.patch_loss.aggregation) {
                    (Some((near, k)), Aggregation::ClassAttention) => Target::ClassAttention(near, k),
                    (Some((near, k)), _) => Target::Mean(near, k),
                    (None, _) => Target::Own,
                })
            })
            .collect::<std::result::Result<_, Error>>()?;
        Ok(Self {
            network: NetworkConfig::of(config)?,
            lambda: config.patch_loss.lambda,
            targets,
            student_temp: config.image_loss.student_temp,
            center_momentum: config.image_loss.center_momentum,
            clip: config.optim.clip_grad,
            drop_path_rate: config.model.drop_path_rate,
            algorithm: config.algorithm(),
            accumulate: config.optim.accumulate,
            activations: match config.optim.recompute {
                true => Activations::Recompute,
                false => Activations::Keep,
            },
            precision: config.precision(),
            seed: config.seed,
        })
    }
}

/// Both networks with all state of the training.
pub struct Trainer {
    settings: Settings,
    /// Parameters of the student.
    pub student_params: Params,
    /// Parameters of the teacher.
    pub teacher_params: Params,
    student: Network,
    teacher: Network,
    /// The image objective with its centre.
    pub image: Dino,
    /// The patch objective with its centre.
    pub patch: PatchLoss,
    /// Moments and step counts.
    pub optimizer: Optimizer,
    /// Scale of the loss, in fp16.
    pub scaler: Option<Scaler>,
}

/// Losses of one batch, still in the graph.
pub struct Loss {
    /// image + lambda * patch.
    pub total: Tensor,
    /// DINO's loss.
    pub class: Tensor,
    /// The patch loss; `None` without a patch head.
    pub patch: Option<Tensor>,
    /// What the centres are moved by.
    pub means: Means,
    /// Mean entropy of the teacher's class outputs, in nats, a scalar.
    pub teacher_entropy: Tensor,
}

/// Means of the teacher's rows, which move the centres.
pub struct Means {
    /// `[1, K]`.
    pub class: Tensor,
    /// `[1, P]`; `None` without a patch head.
    pub patch: Option<Tensor>,
}

impl Trainer {
    /// Student and teacher with the same initial weights.
    pub fn new(settings: Settings, dtype: DType, device: &Device) -> Result<Self> {
        let (student_params, teacher_params) = (Params::trainable(settings.seed), Params::frozen(settings.seed));
        let student = Network::new(&settings.network, student_params.builder(dtype, device))?;
        let teacher = Network::new(&settings.network, teacher_params.builder(dtype, device))?;
        let mut image = Dino::new(settings.network.class_head.out_dim, settings.center_momentum, dtype, device)?;
        image.student_temp = settings.student_temp;
        let prototypes = settings.network.patch_head.as_ref().map_or(1, |head| head.out_dim);
        let mut patch = PatchLoss::new(prototypes, settings.center_momentum, dtype, device)?;
        patch.student_temp = settings.student_temp;
        let optimizer = Optimizer::new(settings.algorithm);
        let scaler = (settings.precision == Precision::F16).then(Scaler::default);
        Ok(Self { settings, student_params, teacher_params, student, teacher, image, patch, optimizer, scaler })
    }

    /// The whole step. `crops`: one `[V_g * B, 3, S, S]` per crop size, views first; `step` counts
    /// from 0 and seeds the stochastic depth.
    ///
    /// With [`Settings::accumulate`] above 1 the images are taken in that many parts, one after the
    /// other; gradients, losses and centres come out as those of the whole batch, up to rounding.
    ///
    /// A loss or gradient that is not finite is an error and changes nothing but the running statistics
    /// of batch norm, if the heads have it. In fp16 a gradient that is not finite has most likely overflowed: the
    /// student is left as it is, the loss is scaled down, and teacher and centres move on, as in the published
    /// program.
    ///
    /// The device is read once, at the end.
    pub fn step(
        &mut self,
        crops: &[Tensor],
        images: usize,
        step: usize,
        hyper: &Hyper,
    ) -> std::result::Result<StepReport, Error> {
        let before = transfer::count();
        // On a thread of the pool, so that its parallel loops need no hand-over.
        let mut report = rayon::scope(|_| self.step_on_pool(crops, images, step, hyper))?;
        report.transfers = transfer::count() - before;
        Ok(report)
    }

    fn step_on_pool(
        &mut self,
        crops: &[Tensor],
        images: usize,
        step: usize,
        hyper: &Hyper,
    ) -> std::result::Result<StepReport, Error> {
        let mut parcel = Parcel::default();
        let run = || self.gradients(crops, images, step, hyper, &mut parcel);
        let Outcome { mut grads, loss, means, numbers } = autocast(self.settings.precision, run)?;
        self.mark(&mut grads, &loss)?;
        let norms = self.optimise(&mut grads, hyper)?;
        drop(grads);
        // Some optimisers of a GPU have fetched them already.
        let place = parcel.add(&norms.values.to_device(self.device())?)?;
        let values = parcel.read()?;
        let mut report = StepReport::default();
        for (part, share) in &numbers {
            let part = part.read(&values);
            if part.losses.iter().any(|loss| !loss.is_finite()) {
                return Err(Error::NotFinite { step, class: part.losses[1], patch: part.losses[2] });
            }
            report = report.plus(part, *share);
        }
        report.loss_scale = self.scaler.map(|scaler| scaler.scale);
        report.overflow = self.judge(&norms.names, &values[place.clone()], hyper)?;
        report.grad_norm = values[place].iter().map(|n| n * n).sum::<f64>().sqrt();
        self.commit(&means)?;
        Ok(report)
    }

    /// Makes a loss that is not finite show in a gradient. The optimiser, which is to change nothing then, looks at
    /// gradients alone, and they may be finite where the loss is not.
    fn mark(&self, grads: &mut Gradients, loss: &Tensor) -> Result<()> {
        let vars = self.student_params.iter().map(|(_, var)| var).filter(|var| grads.contains(var));
        let Some(smallest) = vars.min_by_key(|var| var.elem_count()) else { return Ok(()) };
        if let Some(gradient) = grads.get(&smallest) {
            grads.set(&smallest, gradient.broadcast_add(&(loss * 0.)?)?);
        }
        Ok(())
    }

    /// Decides what gradients of such norms mean. The optimiser has done its step if all are finite, and nothing
    /// otherwise. True for an overflow in fp16.
    fn judge(&mut self, names: &[String], norms: &[f64], hyper: &Hyper) -> std::result::Result<bool, Error> {
        let Some(first) = norms.iter().position(|norm| !norm.is_finite()) else {
            self.scaler.iter_mut().for_each(Scaler::advance);
            return Ok(false);
        };
        let parameter = names[first].clone();
        match self.scaler.as_mut().map(Scaler::back_off) {
            None => Err(Error::NotFiniteGradient { parameter }),
            Some(false) => Err(Error::Overflow { parameter }),
            Some(true) => {
                ema(&self.teacher_params, &self.student_params, hyper.momentum)?;
                Ok(true)
            }
        }
    }

    /// What a step computes before it changes anything; its numbers go into `parcel`.
    fn gradients(
        &self,
        crops: &[Tensor],
        images: usize,
        step: usize,
        hyper: &Hyper,
        parcel: &mut Parcel,
    ) -> Result<Outcome> {
        let depth = self.survivals(crops, step)?;
        let mut sum: Option<Outcome> = None;
        for part in parts(images, self.settings.accumulate) {
            let share = part.len() as f64 / images as f64;
            let n = part.len();
            let crops = crops.iter().map(|x| images_of(x, images, &part)).collect::<Result<Vec<_>>>()?;
            let patches = self.student.backbone.patches(&crops)?;
            let survivals = depth.as_ref().map(|depth| survivals_of(depth, images, &part));
            let teacher = self.teacher_targets(&patches, n)?;
            let pass = Pass { survivals, activations: self.settings.activations };
            let student = self.student_logits(&patches, n, &pass, hyper.freeze_last_layer)?;
            let loss = self.loss(&student, &teacher, &patches, n, hyper)?;
            let numbers = vec![(Numbers::of(&loss, &student, &teacher, parcel)?, share)];
            drop((student, teacher, patches));
            let grads = backward(&scaled(&loss.total, share * self.scaler.map_or(1., |s| s.scale))?)?;
            let Loss { total, means, .. } = loss;
            let part = Outcome { grads, loss: scaled(&total.detach(), share)?, means: means.scaled(share)?, numbers };
            sum = Some(match sum {
                Some(sum) => sum.plus(part, &self.student_params)?,
                None => part,
            });
        }
        match sum {
            Some(sum) => Ok(sum),
            None => bail!("a training step needs at least one image"),
        }
    }

    /// Which crops of this step keep which residual branch.
    fn survivals(&self, crops: &[Tensor], step: usize) -> Result<Option<Survivals>> {
        let rate = self.settings.drop_path_rate;
        if rate <= 0. {
            return Ok(None);
        }
        let mut rng = stream(self.settings.seed, Purpose::DropPath, step as u64, 0);
        let groups = crops.iter().map(|x| x.dim(0)).collect::<Result<Vec<_>>>()?;
        Ok(Some(self.student.backbone.stochastic_depth(rate, &groups, &mut rng)))
    }

    /// Where both networks are.
    pub fn device(&self) -> &Device {
        self.image.center().value().device()
    }

    /// What layers and heads compute in.
    pub fn precision(&self) -> Precision {
        self.settings.precision
    }

    /// The teacher's logits: all crops, patch branch on.
    pub fn teacher_targets(&self, patches: &Patches, images: usize) -> Result<Targets> {
        self.teacher.teacher(patches, images, self.image.globals, &self.settings.targets)
    }

    /// The student's network.
    pub fn student(&self) -> &Network {
        &self.student
    }

    /// The teacher's network.
    pub fn teacher(&self) -> &Network {
        &self.teacher
    }

    /// The student's logits: all crops. `frozen` keeps gradients from the prototypes.
    pub fn student_logits(&self, patches: &Patches, images: usize, pass: &Pass, frozen: bool) -> Result<Logits> {
        match frozen {
            true => self.student.with_frozen_prototypes().student(patches, images, pass),
            false => self.student.student(patches, images, pass),
        }
    }

    /// Image loss + lambda x patch loss, with the centres before this step.
    pub fn loss(
        &self,
        student: &Logits,
        teacher: &Targets,
        patches: &Patches,
        images: usize,
        hyper: &Hyper,
    ) -> Result<Loss> {
        let class = self.image.loss(&student.class, &teacher.class, hyper.teacher_temp)?;
        let (total, patch) = match (&student.patch, &teacher.patch) {
            (Some(s), Some(t)) => {
                let group = |g: &Group| CropGroup { crops: g.count / images, rows: images * g.rows * g.cols };
                let groups: Vec<CropGroup> = patches.groups().iter().map(group).collect();
                let patch = self.patch.loss(s, t, &groups, hyper.patch_teacher_temp)?;
                ((&class.loss + (&patch.loss * self.settings.lambda)?)?, Some(patch))
            }
            _ => (class.loss.clone(), None),
        };
        let (patch, patch_mean) = patch.map(|p| (p.loss, p.teacher_mean)).unzip();
        let means = Means { class: class.teacher_mean, patch: patch_mean };
        Ok(Loss { total, class: class.loss, patch, means, teacher_entropy: class.teacher_entropy })
    }

    /// Moves both centres, after the loss.
    pub fn commit(&mut self, means: &Means) -> Result<()> {
        self.image.commit(&means.class)?;
        match &means.patch {
            Some(patch) => self.patch.commit(patch),
            None => Ok(()),
        }
    }

    /// Clips each gradient, drops those of frozen prototypes, steps the optimiser and moves the
    /// teacher (QUIRKS 12, 13, 17). Returns the gradient norms before clipping, in the order of the
    /// parameters that have one. A gradient that is not finite is an error and changes nothing.
    pub fn update(&mut self, grads: &mut Gradients, hyper: &Hyper) -> std::result::Result<Vec<f64>, Error> {
        let norms = self.optimise(grads, hyper)?;
        let values = transfer::to_host(&norms.values)?;
        self.judge(&norms.names, &values, hyper)?;
        Ok(values)
    }

    /// The same; whether all was well remains to be seen in the norms.
    fn optimise(&mut self, grads: &mut Gradients, hyper: &Hyper) -> Result<Norms> {
        if hyper.freeze_last_layer {
            for (_, var) in self.student_params.iter().filter(|(name, _)| name.contains("last_layer")) {
                grads.remove(&var);
            }
        }
        let step = Step {
            lr: hyper.lr,
            weight_decay: hyper.weight_decay,
            clip: self.settings.clip,
            scale: self.scaler.map_or(1., |scaler| scaler.scale),
            momentum: hyper.momentum,
        };
        self.optimizer.step(&self.student_params, Some(&self.teacher_params), grads, &step)
    }
}

/// What a step has computed before it changes anything.
struct Outcome {
    /// Of the scaled loss, the sum over all parts.
    grads: Gradients,
    /// The loss, likewise.
    loss: Tensor,
    means: Means,
    /// Of each part, with its share of the images.
    numbers: Vec<(Numbers, f64)>,
}

impl Outcome {
    /// `self` and what came of another part.
    fn plus(mut self, part: Self, params: &Params) -> Result<Self> {
        let vars: Vec<Var> = params.iter().map(|(_, var)| var).collect();
        self.grads.add(part.grads, vars.iter().map(|var| var.as_tensor()))?;
        self.loss = (self.loss + part.loss)?;
        self.means = self.means.plus(part.means)?;
        self.numbers.extend(part.numbers);
        Ok(self)
    }
}

impl Means {
    fn scaled(self, factor: f64) -> Result<Self> {
        let patch = self.patch.map(|patch| scaled(&patch, factor)).transpose()?;
        Ok(Self { class: scaled(&self.class, factor)?, patch })
    }

    fn plus(self, other: Self) -> Result<Self> {
        let patch = match (self.patch, other.patch) {
            (Some(a), Some(b)) => Some((a + b)?),
            _ => None,
        };
        Ok(Self { class: (self.class + other.class)?, patch })
    }
}

fn scaled(t: &Tensor, factor: f64) -> Result<Tensor> {
    if factor == 1. { Ok(t.clone()) } else { t * factor }
}

/// `images` in `count` runs of nearly equal length.
fn parts(images: usize, count: usize) -> Vec<Range<usize>> {
    let count = count.max(1).min(images);
    (0..count).map(|i| i * images / count..(i + 1) * images / count).collect()
}

/// Some images of crops `[V * B, ..]`, views first.
fn images_of(crops: &Tensor, images: usize, part: &Range<usize>) -> Result<Tensor> {
    if part.len() == images {
        return Ok(crops.clone());
    }
    let (n, c, h, w) = crops.dims4()?;
    let views = n / images;
    let part = crops.reshape((views, images, c, h, w))?.narrow(1, part.start, part.len())?;
    let n = part.dim(0)? * part.dim(1)?;
    part.contiguous()?.reshape((n, c, h, w))
}

/// The draws of some images.
fn survivals_of(all: &Survivals, images: usize, part: &Range<usize>) -> Survivals {
    let pick = |survival: &Survival| {
        let alive = survival.alive.iter().enumerate().filter(|(i, _)| part.contains(&(i % images))).map(|(_, a)| *a);
        Survival { alive: alive.collect(), scale: survival.scale }
    };
    all.iter().map(|branches| branches.each_ref().map(|b| b.as_ref().map(pick))).collect()
}

impl Loss {
    /// Total, class and patch loss as numbers.
    pub fn values(&self) -> Result<[f64; 3]> {
        let number = |t: &Tensor| Ok::<_, candle_core::Error>(transfer::to_host(t)?[0]);
        Ok([number(&self.total)?, number(&self.class)?, self.patch.as_ref().map_or(Ok(0.), number)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    #[test]
    fn a_loss_that_is_not_finite_keeps_the_optimiser_from_its_step() -> std::result::Result<(), Error> {
        let mut trainer = Trainer::new(Settings::of(&Preset::Default.config())?, DType::F32, &Device::Cpu)?;
        let plan = Hyper {
            lr: 1.,
            weight_decay: 0.,
            momentum: 0.5,
            teacher_temp: 0.04,
            patch_teacher_temp: 0.04,
            freeze_last_layer: false,
        };
        let weight = trainer.student_params.get("ca_head.norm.weight").expect("a weight");
        let values = || weight.to_vec1::<f32>();
        let before = values()?;
        for (loss, fine) in [(f32::INFINITY, false), (f32::NAN, false), (3., true)] {
            let mut grads = backward(&weight.sum_all()?)?;
            trainer.mark(&mut grads, &Tensor::new(loss, &Device::Cpu)?)?;
            assert_eq!(trainer.update(&mut grads, &plan).is_ok(), fine);
            assert_eq!(values()? == before, !fine);
        }
        Ok(())
    }
}
