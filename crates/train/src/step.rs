//! One training step: teacher, student, loss, gradients, optimiser, average.

use crate::network::{Logits, Network, NetworkConfig, Target};
use crate::{Config, Error};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use selfpatch_losses::{CropGroup, Dino, PatchLoss};
use selfpatch_nn::Params;
use selfpatch_nn::random::{Purpose, stream};
use selfpatch_optim::{Algorithm, Optimizer, clip_per_tensor, ema};
use selfpatch_vit::DropPath;

/// What changes from step to step.
#[derive(Clone, Copy, Debug)]
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
}

/// Losses of one step, still in the graph.
pub struct Loss {
    /// image + lambda * patch.
    pub total: Tensor,
    /// DINO's loss.
    pub class: Tensor,
    /// The patch loss; `None` without a patch head.
    pub patch: Option<Tensor>,
}

/// Numbers of one step.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Total, class and patch loss (0 without a patch head).
    pub losses: [f64; 3],
    /// Mean entropy of the teacher's class outputs, in nats.
    pub teacher_entropy: f64,
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
        Ok(Self { settings, student_params, teacher_params, student, teacher, image, patch, optimizer })
    }

    /// The whole step. `crops`: one `[V_g * B, 3, S, S]` per crop size, views first; `step` counts
    /// from 0 and seeds the stochastic depth.
    ///
    /// A loss or gradient that is not finite is an error and changes nothing.
    pub fn step(
        &mut self,
        crops: &[Tensor],
        images: usize,
        step: usize,
        hyper: &Hyper,
    ) -> std::result::Result<StepReport, Error> {
        let teacher = self.teacher_logits(crops, images)?;
        let student = self.student_logits(crops, images, step)?;
        let loss = self.loss(&student, &teacher, crops, images, hyper)?;
        let losses = loss.values()?;
        if losses.iter().any(|l| !l.is_finite()) {
            return Err(Error::NotFinite { step, class: losses[1], patch: losses[2] });
        }
        let mut grads = loss.total.backward()?;
        let teacher_entropy = self.image.teacher_entropy(&teacher.class, hyper.teacher_temp)?;
        self.update(&mut grads, hyper)?;
        self.commit(&teacher)?;
        Ok(StepReport { losses, teacher_entropy })
    }

    /// The teacher's logits: all crops, patch branch on.
    pub fn teacher_logits(&self, crops: &[Tensor], images: usize) -> Result<Logits> {
        self.teacher.teacher(crops, images, &self.settings.targets)
    }

    /// The student's logits: all crops.
    pub fn student_logits(&self, crops: &[Tensor], images: usize, step: usize) -> Result<Logits> {
        let mut rng = stream(self.settings.seed, Purpose::DropPath, step as u64, 0);
        let rate = self.settings.drop_path_rate;
        self.student.student(crops, images, (rate > 0.).then_some(DropPath { rate, rng: &mut rng }))
    }

    /// Image loss + lambda x patch loss, with the centres before this step.
    pub fn loss(
        &self,
        student: &Logits,
        teacher: &Logits,
        crops: &[Tensor],
        images: usize,
        hyper: &Hyper,
    ) -> Result<Loss> {
        let class = self.image.loss(&student.class, &teacher.class, hyper.teacher_temp)?;
        let (Some(s), Some(t)) = (&student.patch, &teacher.patch) else {
            return Ok(Loss { total: class.clone(), class, patch: None });
        };
        let groups = crops.iter().map(|x| self.group(x, images)).collect::<Result<Vec<_>>>()?;
        let patch = self.patch.loss(s, t, &groups, hyper.patch_teacher_temp)?;
        Ok(Loss { total: (&class + (&patch * self.settings.lambda)?)?, class, patch: Some(patch) })
    }

    fn group(&self, crops: &Tensor, images: usize) -> Result<CropGroup> {
        let (n, _, height, width) = crops.dims4()?;
        let (rows, cols) = self.settings.network.vit.grid(height, width)?;
        Ok(CropGroup { crops: n / images, rows: images * rows * cols })
    }

    /// Moves both centres, after the loss.
    pub fn commit(&mut self, teacher: &Logits) -> Result<()> {
        self.image.commit(&teacher.class)?;
        match &teacher.patch {
            Some(patch) => self.patch.commit(patch),
            None => Ok(()),
        }
    }

    /// Clips each gradient, drops those of frozen prototypes, steps the optimiser, then moves the
    /// teacher (QUIRKS 12, 13, 17). Returns the gradient norms before clipping, in the order of the
    /// parameters that have one. A gradient that is not finite is an error and changes nothing.
    pub fn update(&mut self, grads: &mut GradStore, hyper: &Hyper) -> std::result::Result<Vec<f64>, Error> {
        let params: Vec<(String, Var)> = self.student_params.iter().collect();
        let norms = clip_per_tensor(&params, grads, self.settings.clip)?;
        let with_gradient = params.iter().filter(|(_, var)| grads.get(var).is_some());
        if let Some(((name, _), _)) = with_gradient.zip(&norms).find(|(_, norm)| !norm.is_finite()) {
            return Err(Error::NotFiniteGradient { parameter: name.clone() });
        }
        if hyper.freeze_last_layer {
            for (_, var) in params.iter().filter(|(name, _)| name.contains("last_layer")) {
                grads.remove(var);
            }
        }
        self.optimizer.step(&params, grads, hyper.lr, hyper.weight_decay)?;
        ema(&self.teacher_params, &self.student_params, hyper.momentum)?;
        Ok(norms)
    }
}

impl Loss {
    /// Total, class and patch loss as numbers.
    pub fn values(&self) -> Result<[f64; 3]> {
        let number = |t: &Tensor| t.to_dtype(DType::F64)?.to_scalar::<f64>();
        Ok([number(&self.total)?, number(&self.class)?, self.patch.as_ref().map_or(Ok(0.), number)?])
    }
}
