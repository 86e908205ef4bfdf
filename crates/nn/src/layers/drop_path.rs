//! Stochastic depth.

use candle_core::{Result, Tensor};

/// Which sequences keep one residual branch, and by how much the kept ones are scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct Survival {
    /// Whether each sequence keeps the branch, one entry per sequence.
    pub alive: Vec<bool>,
    /// Scale of kept branches, `1 / (1 - rate)`.
    pub scale: f64,
}

impl Survival {
    /// Sequence `i` survives where `1 - rate + u_i >= 1`; `u_i` uniform in `[0, 1)`.
    pub fn new(rate: f64, u: &[f32]) -> Self {
        let keep = 1.0 - rate;
        Self { alive: u.iter().map(|&u| (keep as f32 + u).floor() > 0.).collect(), scale: 1. / keep }
    }

    /// The branch `x [B, ..]` scaled where it survives, 0 elsewhere.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let mut shape = vec![1; x.rank()];
        shape[0] = self.alive.len();
        let scale: Vec<f64> = self.alive.iter().map(|&alive| if alive { self.scale } else { 0. }).collect();
        x.broadcast_mul(&Tensor::from_vec(scale, shape, x.device())?.to_dtype(x.dtype())?)
    }
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
