//! One linear classifier on frozen features.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Init, VarBuilder, loss, ops};
use selfpatch_nn::{Gradients, Params, backward};
use selfpatch_optim::{Algorithm, Optimizer, Rules, Step};

/// `logits = x W^T + b`, trained by SGD with momentum 0.9 and no weight decay (DINO's `eval_linear.py`).
pub struct Classifier {
    /// `weight [C, D]` and `bias [C]`.
    pub params: Params,
    /// Momentum and step counts.
    pub optimizer: Optimizer,
}

impl Classifier {
    /// A classifier for features of width `dim` and `classes` classes: weights of deviation 0.01 from `seed`, no bias.
    ///
    /// # Errors
    /// When the parameters cannot be made.
    pub fn new(dim: usize, classes: usize, seed: u64, device: &Device) -> Result<Self> {
        let params = Params::trainable(seed);
        let vb: VarBuilder = params.builder(DType::F32, device);
        vb.get_with_hints((classes, dim), "weight", Init::Randn { mean: 0., stdev: 0.01 })?;
        vb.get_with_hints(classes, "bias", Init::Const(0.))?;
        Ok(Self { params, optimizer: Optimizer::new(Algorithm::Sgd) })
    }

    /// Logits of features: `[B, D] -> [B, C]`.
    ///
    /// # Errors
    /// When the features have another width.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        let get = |name: &str| {
            let var = self.params.get(name);
            var.ok_or_else(|| candle_core::Error::Msg(format!("a classifier without {name}")))
        };
        features.matmul(&get("weight")?.as_tensor().t()?)?.broadcast_add(get("bias")?.as_tensor())
    }

    /// Mean cross-entropy, a scalar, of `features [B, D]` of the classes `labels [B]` (u32), and its gradients.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn gradients(&self, features: &Tensor, labels: &Tensor) -> Result<(Tensor, Gradients)> {
        let loss = cross_entropy(&self.logits(features)?, labels)?;
        let gradients = backward(&loss)?;
        Ok((loss.detach(), gradients))
    }

    /// One step with learning rate `lr`.
    ///
    /// # Errors
    /// When the gradients are not those of this classifier.
    pub fn step(&mut self, gradients: &Gradients, lr: f64) -> Result<()> {
        self.optimizer.step(&self.params, None, gradients, &Rules::default(), &Step { lr, ..Step::default() })?;
        Ok(())
    }
}

/// Mean cross-entropy of `logits [B, C]` with the classes `labels [B]` (u32), a scalar.
pub(crate) fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    loss::nll(&ops::log_softmax(logits, 1)?, labels)
}

/// Learning rate of an epoch: a half cosine from `base` to 0 in steps of whole epochs (torch's `CosineAnnealingLR`,
/// stepped once per epoch).
pub fn rate(base: f64, epoch: usize, epochs: usize) -> f64 {
    base * (1. + (std::f64::consts::PI * epoch as f64 / epochs as f64).cos()) / 2.
}
