//! Layers with gradients, initialised as in the reference.

use crate::ops;
use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder, init};

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
    /// `[O, I]`.
    pub weight: Tensor,
    /// `[O]`.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// `inp -> out` with bias; weights [`WEIGHT_INIT`], bias 0. Names `weight`, `bias`.
    pub fn new(inp: usize, out: usize, vb: VarBuilder) -> Result<Self> {
        Self::with_bias(inp, out, true, vb)
    }

    /// The same, the bias being optional.
    pub fn with_bias(inp: usize, out: usize, bias: bool, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints((out, inp), "weight", WEIGHT_INIT)?,
            bias: bias.then(|| vb.get_with_hints(out, "bias", init::ZERO)).transpose()?,
        })
    }

    /// `[.., I] -> [.., O]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }
}

/// Layer normalisation over the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Weight 1, bias 0. Names `weight`, `bias`.
    pub fn new(dim: usize, eps: f64, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(dim, "weight", init::ONE)?,
            bias: vb.get_with_hints(dim, "bias", init::ZERO)?,
            eps,
        })
    }

    /// `[.., D] -> [.., D]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

/// The feed-forward half of a transformer block: linear, GELU, linear.
#[derive(Clone, Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// `dim -> hidden -> dim`. Names `fc1`, `fc2`.
    pub fn new(dim: usize, hidden: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self { fc1: Linear::new(dim, hidden, vb.pp("fc1"))?, fc2: Linear::new(hidden, dim, vb.pp("fc2"))? })
    }

    /// `[.., D] -> [.., D]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.fc2.forward(&ops::gelu(&self.fc1.forward(x)?)?)
    }
}

/// Rows of unit length: `x / max(|x|, 1e-12)` over the last dimension (torch's `normalize`).
pub fn normalize(x: &Tensor) -> Result<Tensor> {
    let length = x.sqr()?.sum_keepdim(candle_core::D::Minus1)?.sqrt()?;
    x.broadcast_div(&length.maximum(1e-12)?)
}

/// Stochastic depth for one residual branch: sample `i` survives where `keep + u_i >= 1` and is
/// scaled by `1 / keep`. `x [B, ..]`, `u [B]` uniform in `[0, 1)`, `keep = 1 - rate`.
pub fn drop_path(x: &Tensor, rate: f64, u: &[f32]) -> Result<Tensor> {
    let keep = 1.0 - rate;
    let mut shape = vec![1; x.rank()];
    shape[0] = u.len();
    let scale: Vec<f64> = u.iter().map(|&u| (keep as f32 + u).floor() as f64 / keep).collect();
    let scale = Tensor::from_vec(scale, shape, x.device())?.to_dtype(x.dtype())?;
    x.broadcast_mul(&scale)
}

/// Stochastic-depth rate of each block: from 0 to `rate` in equal steps of f32, as `torch.linspace`.
pub fn drop_path_rates(rate: f64, depth: usize) -> Vec<f64> {
    let (rate, last) = (rate as f32, depth.saturating_sub(1));
    let step = rate / last.max(1) as f32;
    (0..depth)
        .map(|i| if i < depth / 2 || last == 0 { step * i as f32 } else { rate - step * (last - i) as f32 })
        .map(f64::from)
        .collect()
}
