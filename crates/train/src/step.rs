//! One training step: teacher, student, loss, gradients, optimiser, average.

use crate::network::{Network, Rows};
use crate::objective::objective;
use crate::report::{Losses, Readings, StepReport, patch_agreement};
use crate::settings::{Hyper, Settings};
use crate::{Error, Scaler};
use candle_core::{DType, Device, Result, Tensor, Var, bail};
use selfpatch_dist::{Alone, Communicator, Share};
use selfpatch_losses::{Branches, CropGroup, HeadOutput, Objective, PatchLoss, Piece, Plan, Sign, Update};
use selfpatch_nn::Backbone;
use selfpatch_nn::ops::Survivals;
use selfpatch_nn::random::{Purpose, stream};
use selfpatch_nn::transfer::{self, Parcel};
use selfpatch_nn::{Gradients, Params, Precision, Survival, autocast, backward};
use selfpatch_optim::{Follower, Norms, Optimizer, Step, ema};
use selfpatch_vit::{Group, Pass, Patches};
use std::ops::Range;

/// Both networks with all state of the training.
pub struct Trainer {
    settings: Settings,
    /// Parameters of the student.
    pub student_params: Params,
    /// Parameters of the teacher.
    pub teacher_params: Params,
    student: Network,
    teacher: Network,
    /// The image objective with its state.
    pub objective: Box<dyn Objective>,
    plan: Plan,
    /// The patch objective with its centre.
    pub patch: PatchLoss,
    /// Moments and step counts.
    pub optimizer: Optimizer,
    /// Scale of the loss, in fp16.
    pub scaler: Option<Scaler>,
    /// The processes that train together.
    pub communicator: Box<dyn Communicator>,
}

/// Losses of one batch, still in the graph.
pub struct Loss {
    /// Total loss: image + lambda * patch.
    pub total: Tensor,
    /// The image loss.
    pub class: Tensor,
    /// The patch loss; `None` without a patch head.
    pub patch: Option<Tensor>,
    /// What moves the state of the objectives.
    pub updates: Updates,
    /// Numbers of the image objective.
    pub numbers: Vec<Sign>,
}

/// What moves the state of both objectives.
pub struct Updates {
    /// What moves the state of the image objective.
    pub image: Update,
    /// What moves the centre of the patch objective; `None` without a patch head.
    pub patch: Option<Update>,
}

impl Trainer {
    /// Student and teacher with the same initial weights.
    pub fn new(settings: Settings, dtype: DType, device: &Device) -> Result<Self> {
        let (student_params, teacher_params) = (Params::trainable(settings.seed), Params::frozen(settings.seed));
        let student = Network::new(&settings.network, student_params.builder(dtype, device))?;
        let teacher = Network::new(&settings.network, teacher_params.builder(dtype, device))?;
        let objective = objective(&settings, dtype, device)?;
        let plan = objective.plan();
        let prototypes = settings.network.patch_head.as_ref().map_or(1, |head| head.out_dim);
        let mut patch = PatchLoss::new(prototypes, settings.center_momentum, dtype, device)?;
        patch.student_temp = settings.student_temp;
        let optimizer = Optimizer::new(settings.algorithm);
        let scaler = (settings.precision == Precision::F16).then(Scaler::default);
        Ok(Self {
            settings,
            student_params,
            teacher_params,
            student,
            teacher,
            objective,
            plan,
            patch,
            optimizer,
            scaler,
            communicator: Box::new(Alone),
        })
    }

    /// Takes one whole step. `crops`: one `[V_g * B, C, S, S]` per crop size, views first; `step` counts
    /// from 0 and seeds the stochastic depth.
    ///
    /// With [`Settings::accumulate`] above 1 the images are taken in that many parts, one after the
    /// other; gradients, losses and centres come out as those of the whole batch, up to rounding.
    ///
    /// A non-finite loss or gradient is an error and changes nothing but the running statistics
    /// of batch norm, if the heads have it. In fp16 a non-finite gradient has most likely overflowed: the
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
        if self.communicator.world() > 1 {
            // Only the draws of a step know ranks so far.
            let reason = "several processes cannot train together yet: their gradients are not summed";
            return Err(candle_core::Error::Msg(reason.into()).into());
        }
        let mut parcel = Parcel::default();
        let run = || self.gradients(crops, images, step, hyper, &mut parcel);
        let Computed { mut grads, loss, updates, readings } = autocast(self.settings.precision, run)?;
        self.mark(&mut grads, &loss)?;
        let norms = self.optimise(&mut grads, hyper)?;
        drop(grads);
        // Some optimisers of a GPU have fetched them already.
        let place = parcel.add(&norms.values.to_device(self.device())?)?;
        let values = parcel.read()?;
        let mut report = StepReport::default();
        for (part, share) in &readings {
            let part = part.read(&values);
            if part.losses.iter().any(|loss| !loss.is_finite()) {
                let losses = vec![("class loss", part.losses[1]), ("patch loss", part.losses[2])];
                return Err(Error::NonFinite { step, losses });
            }
            report = report.plus(part, *share);
        }
        report.loss_scale = self.scaler.map(|scaler| scaler.scale);
        report.overflow = self.judge(&norms.names, &values[place.clone()], hyper)?;
        report.grad_norm = values[place].iter().map(|n| n * n).sum::<f64>().sqrt();
        self.commit(&updates)?;
        Ok(report)
    }

    /// Makes a non-finite loss show in a gradient. The optimiser, which is to change nothing then, looks at
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
            None => Err(Error::NonFiniteGradient { parameter }),
            Some(false) => Err(Error::Overflow { parameter }),
            Some(true) => {
                ema(&Follower { params: &self.teacher_params, momentum: hyper.momentum }, &self.student_params)?;
                Ok(true)
            }
        }
    }

    /// Computes a step before it changes anything; its numbers go into `parcel`.
    fn gradients(
        &self,
        crops: &[Tensor],
        images: usize,
        step: usize,
        hyper: &Hyper,
        parcel: &mut Parcel,
    ) -> Result<Computed> {
        let depth = self.survivals(crops, images, step)?;
        let mut sum: Option<Computed> = None;
        for part in parts(images, self.settings.accumulate) {
            let share = part.len() as f64 / images as f64;
            let n = part.len();
            let crops = crops.iter().map(|x| images_of(x, images, &part)).collect::<Result<Vec<_>>>()?;
            let patches = self.student.backbone.patches(&crops)?;
            let survivals = depth.as_ref().map(|depth| survivals_of(depth, images, &part));
            let teacher = self.teacher_rows(&patches)?;
            let pass = Pass { survivals, activations: self.settings.activations };
            let student = self.student_rows(&patches, &pass, hyper.at.epoch)?;
            let mut loss = self.loss(&student, &teacher, &patches, n, hyper)?;
            let mut signs = std::mem::take(&mut loss.numbers);
            signs.extend(patch_agreement(&student, &teacher)?);
            let losses = Losses { total: &loss.total, class: &loss.class, patch: loss.patch.as_ref() };
            let readings = vec![(Readings::of(losses, signs, parcel)?, share)];
            drop((student, teacher, patches));
            let grads = backward(&scaled(&loss.total, share * self.scaler.map_or(1., |s| s.scale))?)?;
            let Loss { total, updates, .. } = loss;
            let loss = scaled(&total.detach(), share)?;
            let part = Computed { grads, loss, updates: updates.scaled(share)?, readings };
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

    /// Which crops of this step keep which residual branch. The draws are those of the samples of all processes, of
    /// which this one takes its own: an image meets the same fate however many share the work.
    fn survivals(&self, crops: &[Tensor], images: usize, step: usize) -> Result<Option<Survivals>> {
        let rate = self.settings.drop_path_rate;
        if rate <= 0. {
            return Ok(None);
        }
        let share = Share::of(&*self.communicator, images);
        let mut rng = stream(self.settings.seed, Purpose::DropPath, step as u64, 0);
        let groups = crops.iter().map(|x| Ok(x.dim(0)? * share.world)).collect::<Result<Vec<_>>>()?;
        let all = self.student.backbone.stochastic_depth(rate, &groups, &mut rng);
        Ok(Some(if share.world == 1 { all } else { survivals_of(&all, share.all(), &share.own()) }))
    }

    /// Device of both networks.
    pub fn device(&self) -> &Device {
        self.patch.center().value().device()
    }

    /// Precision that layers and heads compute in.
    pub fn precision(&self) -> Precision {
        self.settings.precision
    }

    /// The teacher's rows: all crops, patch branch on.
    pub fn teacher_rows(&self, patches: &Patches) -> Result<Rows> {
        self.teacher.teacher(patches, &self.settings.targets)
    }

    /// The student's network.
    pub fn student(&self) -> &Network {
        &self.student
    }

    /// The teacher's network.
    pub fn teacher(&self) -> &Network {
        &self.teacher
    }

    /// The student's rows: all crops. Prototypes that are frozen in `epoch` are out of reach of gradients.
    pub fn student_rows(&self, patches: &Patches, pass: &Pass, epoch: usize) -> Result<Rows> {
        match self.is_frozen(PROTOTYPES, epoch) {
            true => self.student.with_frozen_prototypes().student(patches, pass),
            false => self.student.student(patches, pass),
        }
    }

    /// Whether the plan keeps the parameter of this name as it is in `epoch`.
    fn is_frozen(&self, name: &str, epoch: usize) -> bool {
        self.plan.freeze.iter().any(|freeze| freeze.holds(epoch) && name.contains(freeze.of))
    }

    /// Image loss + lambda x patch loss, with the state of both before this step.
    pub fn loss(
        &self,
        student: &Rows,
        teacher: &Rows,
        patches: &Patches,
        images: usize,
        hyper: &Hyper,
    ) -> Result<Loss> {
        let rows = Branches {
            images,
            globals: self.settings.globals,
            online: HeadOutput::Projected(student.class.clone()),
            target: Some(HeadOutput::Projected(teacher.class.clone())),
        };
        let class = self.objective.loss(&rows, hyper.at)?;
        let (total, patch) = match (&student.patch, &teacher.patch) {
            (Some(s), Some(t)) => {
                let group = |g: &Group| CropGroup { crops: g.count / images, rows: images * g.rows * g.cols };
                let groups: Vec<CropGroup> = patches.groups().iter().map(group).collect();
                let patch = self.patch.loss(s, t, &groups, hyper.patch_teacher_temp)?;
                ((&class.loss + (&patch.loss * self.settings.lambda)?)?, Some(patch))
            }
            _ => (class.loss.clone(), None),
        };
        let (patch, mean) = patch.map(|p| (p.loss, p.teacher_mean)).unzip();
        let moves = mean.map(|mean| Update::default().with("patch", Piece::Mean(mean)));
        let updates = Updates { image: class.update, patch: moves };
        Ok(Loss { total, class: class.loss, patch, updates, numbers: class.numbers })
    }

    /// Moves the state of both objectives, after the loss.
    pub fn commit(&mut self, updates: &Updates) -> Result<()> {
        self.objective.commit(&updates.image)?;
        match &updates.patch {
            Some(update) => self.patch.commit(update.get("patch")?),
            None => Ok(()),
        }
    }

    /// Clips each gradient, drops those of frozen prototypes, steps the optimiser and moves the
    /// teacher (QUIRKS 12, 13, 17). Returns the gradient norms before clipping, in the order of the
    /// parameters that have one. A non-finite gradient is an error and changes nothing.
    pub fn update(&mut self, grads: &mut Gradients, hyper: &Hyper) -> std::result::Result<Vec<f64>, Error> {
        let norms = self.optimise(grads, hyper)?;
        let values = transfer::to_host(&norms.values)?;
        self.judge(&norms.names, &values, hyper)?;
        Ok(values)
    }

    /// Drops the gradients of frozen parameters, clips the others, steps the optimiser and moves the teacher. Returns
    /// the norms before clipping, not yet read from the device: if one is non-finite, nothing has changed.
    fn optimise(&mut self, grads: &mut Gradients, hyper: &Hyper) -> Result<Norms> {
        for (_, var) in self.student_params.iter().filter(|(name, _)| self.is_frozen(name, hyper.at.epoch)) {
            grads.remove(&var);
        }
        let step = Step {
            lr: hyper.lr,
            weight_decay: hyper.weight_decay,
            scale: self.scaler.map_or(1., |scaler| scaler.scale),
        };
        let follower = Follower { params: &self.teacher_params, momentum: hyper.momentum };
        self.optimizer.step(&self.student_params, Some(&follower), grads, &self.settings.rules, &step)
    }
}

/// Outcome of a step before it changes anything.
struct Computed {
    /// Gradients of the scaled loss, summed over all parts.
    grads: Gradients,
    /// The unscaled loss, summed over all parts.
    loss: Tensor,
    updates: Updates,
    /// Numbers of each part, with its share of the images.
    readings: Vec<(Readings, f64)>,
}

impl Computed {
    /// `self` with the outcome of another part added.
    fn plus(mut self, part: Self, params: &Params) -> Result<Self> {
        let vars: Vec<Var> = params.iter().map(|(_, var)| var).collect();
        self.grads.add(part.grads, vars.iter().map(|var| var.as_tensor()))?;
        self.loss = (self.loss + part.loss)?;
        self.updates = self.updates.plus(part.updates)?;
        self.readings.extend(part.readings);
        Ok(self)
    }
}

impl Updates {
    fn scaled(self, share: f64) -> Result<Self> {
        let patch = self.patch.map(|patch| patch.scaled(share)).transpose()?;
        Ok(Self { image: self.image.scaled(share)?, patch })
    }

    fn plus(self, other: Self) -> Result<Self> {
        let patch = match (self.patch, other.patch) {
            (Some(a), Some(b)) => Some(a.plus(b)?),
            _ => None,
        };
        Ok(Self { image: self.image.plus(other.image)?, patch })
    }
}

/// Text that the names of prototypes contain.
const PROTOTYPES: &str = "last_layer";

fn scaled(t: &Tensor, factor: f64) -> Result<Tensor> {
    if factor == 1. { Ok(t.clone()) } else { t * factor }
}

/// Splits `images` into `count` ranges of nearly equal length.
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

/// The draws of stochastic depth for some images.
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
    use selfpatch_losses::At;

    #[test]
    fn a_non_finite_loss_keeps_the_optimiser_from_its_step() -> std::result::Result<(), Error> {
        let mut trainer = Trainer::new(Settings::of(&Preset::Default.config())?, DType::F32, &Device::Cpu)?;
        let plan =
            Hyper { lr: 1., weight_decay: 0., momentum: 0.5, patch_teacher_temp: 0.04, at: At { step: 0, epoch: 9 } };
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

    #[test]
    fn two_ranks_draw_what_one_process_draws_for_their_images() -> std::result::Result<(), Error> {
        let settings = Settings::of(&Preset::Default.config())?;
        let settings = Settings { drop_path_rate: 0.5, ..settings };
        let trainer = |communicator: Box<dyn Communicator>| {
            let made = Trainer::new(settings.clone(), DType::F32, &Device::Cpu)?;
            Ok::<_, candle_core::Error>(Trainer { communicator, ..made })
        };
        // Two global views and one local view of so many images.
        let crops = |images: usize| {
            let of =
                |views: usize, side: usize| Tensor::zeros((views * images, 3, side, side), DType::F32, &Device::Cpu);
            Ok::<_, candle_core::Error>(vec![of(2, 48)?, of(1, 24)?])
        };
        let alive = |survivals: Option<Survivals>| -> Vec<Vec<f32>> {
            let branches = survivals.into_iter().flatten().flatten().flatten();
            branches.map(|survival| survival.alive.iter().map(|a| f32::from(u8::from(*a))).collect()).collect()
        };
        let whole = alive(trainer(Box::new(Alone))?.survivals(&crops(6)?, 6, 3)?);
        for (rank, thread) in selfpatch_dist::threads(2).into_iter().enumerate() {
            let own = alive(trainer(Box::new(thread))?.survivals(&crops(3)?, 3, 3)?);
            for (own, whole) in own.iter().zip(&whole) {
                let expected: Vec<f32> = (0..3).flat_map(|view| whole[view * 6 + 3 * rank..][..3].to_vec()).collect();
                assert_eq!(*own, expected);
            }
            assert_eq!(own.len(), whole.len());
        }
        Ok(())
    }
}
