//! Batch normalisation over rows, in training mode.

use candle_core::{D, Result, Tensor};
use candle_nn::{VarBuilder, init};

/// torch's `BatchNorm1d` (eps 1e-5, momentum 0.1) over the last dimension.
#[derive(Clone, Debug)]
pub(crate) struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
}

impl BatchNorm {
    pub(crate) fn new(dim: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(dim, "weight", init::ONE)?,
            bias: vb.get_with_hints(dim, "bias", init::ZERO)?,
            running_mean: vb.get_with_hints(dim, "running_mean", init::ZERO)?,
            running_var: vb.get_with_hints(dim, "running_var", init::ONE)?,
        })
    }

    /// `[.., D] -> [.., D]`, normalised by the statistics of all rows of this call, which also move
    /// the running statistics by a tenth (their variance unbiased).
    pub(crate) fn forward_train(&self, x: &Tensor) -> Result<Tensor> {
        let dim = x.dim(D::Minus1)?;
        let rows = x.to_dtype(self.weight.dtype())?.reshape(((), dim))?;
        let mean = rows.mean_keepdim(0)?;
        let centred = rows.broadcast_sub(&mean)?;
        let variance = centred.sqr()?.mean_keepdim(0)?;
        let n = rows.dim(0)? as f64;
        let unbiased = (variance.detach() * (n / (n - 1.).max(1.)))?;
        for (running, now) in [(&self.running_mean, mean.detach()), (&self.running_var, unbiased)] {
            let next = ((running * 0.9)? + (now.squeeze(0)? * 0.1)?)?;
            running.slice_set(&next, 0, 0)?; // in place: the parameter store sees it
        }
        centred
            .broadcast_div(&(variance + 1e-5)?.sqrt()?)?
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)?
            .reshape(x.shape())
    }
}
