//! Layers with gradients, initialised as in the reference.

use crate::ops;
use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder, init};

mod block;
mod class_block;
mod drop_path;

pub use block::Block;
pub use class_block::ClassBlock;
pub use drop_path::{Survival, drop_path_rates};

/// Standard deviation of the normal initial weights. The reference truncates at +-2 absolute, which
/// cuts nothing off at this width (`trunc_normal_`, std 0.02).
pub const WEIGHT_INIT: Init = Init::Randn { mean: 0., stdev: 0.02 };

/// torch's default for linear and convolution weights and biases: uniform within `1 / sqrt(fan_in)`.
pub fn torch_default(fan_in: usize) -> Init {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// `y = x W^T + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Weight, `[O, I]`.
    pub weight: Tensor,
    /// Bias, `[O]`.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// Weight and bias.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        std::iter::once(&self.weight).chain(&self.bias)
    }

    /// A layer `inp -> out` with bias; weights [`WEIGHT_INIT`], bias 0. Names `weight`, `bias`.
    pub fn new(inp: usize, out: usize, vb: VarBuilder) -> Result<Self> {
        Self::with_bias(inp, out, true, vb)
    }

    /// A linear layer whose bias is optional.
    pub fn with_bias(inp: usize, out: usize, bias: bool, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints((out, inp), "weight", WEIGHT_INIT)?,
            bias: bias.then(|| vb.get_with_hints(out, "bias", init::ZERO)).transpose()?,
        })
    }

    /// Applies the layer: `[.., I] -> [.., O]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }
}

/// Layer normalisation over the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// Gain of each channel, `[D]`.
    pub weight: Tensor,
    /// Shift of each channel, `[D]`.
    pub bias: Tensor,
    /// Number added to the variance.
    pub eps: f64,
}

impl LayerNorm {
    /// Weight and bias.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        [&self.weight, &self.bias].into_iter()
    }

    /// A norm of `dim` channels with weight 1 and bias 0. Names `weight`, `bias`.
    pub fn new(dim: usize, eps: f64, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(dim, "weight", init::ONE)?,
            bias: vb.get_with_hints(dim, "bias", init::ZERO)?,
            eps,
        })
    }

    /// Applies the norm: `[.., D] -> [.., D]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

/// The feed-forward half of a transformer block: linear, GELU, linear.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// First layer, `D -> hidden`.
    pub fc1: Linear,
    /// Second layer, `hidden -> D`.
    pub fc2: Linear,
}

impl Mlp {
    /// Layers `dim -> hidden -> dim`. Names `fc1`, `fc2`.
    pub fn new(dim: usize, hidden: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self { fc1: Linear::new(dim, hidden, vb.pp("fc1"))?, fc2: Linear::new(hidden, dim, vb.pp("fc2"))? })
    }

    /// Applies both layers with GELU between them: `[.., D] -> [.., D]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.fc2.forward(&ops::gelu(&self.fc1.forward(x)?)?)
    }
}
