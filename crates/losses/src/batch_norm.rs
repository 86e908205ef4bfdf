//! Batch normalisation over rows, in training mode.

use candle_core::{D, Result, Tensor, Var};
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
        let rows = x.reshape(((), dim))?;
        let mean = rows.mean_keepdim(0)?;
        let centred = rows.broadcast_sub(&mean)?;
        let variance = centred.sqr()?.mean_keepdim(0)?;
        let n = rows.dim(0)? as f64;
        let unbiased = (variance.detach() * (n / (n - 1.).max(1.)))?;
        for (running, now) in [(&self.running_mean, mean.detach()), (&self.running_var, unbiased)] {
            let next = ((running * 0.9)? + (now.squeeze(0)? * 0.1)?)?;
            overwrite(running, &next)?;
        }
        centred
            .broadcast_div(&(variance + 1e-5)?.sqrt()?)?
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)?
            .reshape(x.shape())
    }
}

/// Writes `value` into the storage that `buffer` shares with the parameter store.
fn overwrite(buffer: &Tensor, value: &Tensor) -> Result<()> {
    struct Copy;
    impl candle_core::InplaceOp2 for Copy {
        fn name(&self) -> &'static str {
            "copy"
        }
        fn cpu_fwd(
            &self,
            to: &mut candle_core::CpuStorage,
            to_layout: &candle_core::Layout,
            from: &candle_core::CpuStorage,
            from_layout: &candle_core::Layout,
        ) -> Result<()> {
            use candle_core::CpuStorage::{F32, F64};
            let (Some((a, b)), Some((c, d))) = (to_layout.contiguous_offsets(), from_layout.contiguous_offsets())
            else {
                candle_core::bail!("running statistics must be contiguous")
            };
            match (to, from) {
                (F32(to), F32(from)) => to[a..b].copy_from_slice(&from[c..d]),
                (F64(to), F64(from)) => to[a..b].copy_from_slice(&from[c..d]),
                _ => candle_core::bail!("running statistics are f32 or f64"),
            }
            Ok(())
        }
    }
    if buffer.device().is_cpu() { buffer.inplace_op2(value, &Copy) } else { Var::from_tensor(buffer)?.set(value) }
}
