//! Norms of gradients, and by how much each gradient is clipped.

use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;
use selfpatch_nn::ops::dot;
use selfpatch_nn::{Gradients, Params, transfer};
use selfpatch_simd::wide;

/// Norms of the gradients of one step, before clipping.
#[derive(Clone, Debug)]
pub struct Norms {
    /// The parameters that have a gradient, in the order of the parameters.
    pub names: Vec<String>,
    /// Norms of the gradients, one per name, not yet copied to the host where a CUDA kernel has made them.
    pub values: Tensor,
}

impl Norms {
    /// The norms as numbers; waits for the device.
    pub fn fetch(&self) -> Result<Vec<f64>> {
        self.values.to_dtype(DType::F64)?.to_vec1()
    }

    /// Norms of all gradients, each divided by `scale`, on the host.
    pub(crate) fn measure(params: &Params, grads: &Gradients, scale: f64) -> Result<Self> {
        let (mut names, mut all) = (Vec::new(), Vec::new());
        for (name, param) in params.iter() {
            if let Some(squares) = squares(grads, &param)? {
                names.push(name);
                all.push(squares);
            }
        }
        let values = match all.is_empty() {
            true => Tensor::zeros(0, DType::F64, &Device::Cpu)?,
            false => {
                let squares = Tensor::stack(&all, 0)?;
                let squares = match squares.device() {
                    Device::Cpu => squares,
                    _ => Tensor::new(transfer::to_host(&squares)?, &Device::Cpu)?,
                };
                (squares.sqrt()? / scale)?
            }
        };
        Ok(Self { names, values })
    }
}

/// Euclidean norm of a gradient.
pub fn norm(grads: &Gradients, param: &Tensor) -> Result<Option<f64>> {
    squares(grads, param)?.map(|total| Ok(total.to_scalar::<f64>()?.sqrt())).transpose()
}

/// Sum of the squares of a gradient, a scalar: sums of at most 4096 squares in its own precision, their
/// sum in f64.
fn squares(grads: &Gradients, param: &Tensor) -> Result<Option<Tensor>> {
    const BLOCK: usize = 4096;
    let on_host = |values: &[f32]| {
        let sums: Vec<f64> = values.par_chunks(BLOCK).map(|block| f64::from(wide!(dot(block, block)))).collect();
        Tensor::new(sums.iter().sum::<f64>(), &Device::Cpu)
    };
    if let Some(total) = grads.with(param, on_host) {
        return total.map(Some);
    }
    let Some(gradient) = grads.get(param) else { return Ok(None) };
    let squares = gradient.flatten_all()?.sqr()?;
    let count = squares.elem_count();
    let blocks = squares.pad_with_zeros(0, 0, count.next_multiple_of(BLOCK) - count)?.reshape(((), BLOCK))?;
    blocks.sum(1)?.to_dtype(DType::F64)?.sum_all().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;
    use selfpatch_nn::backward;
    use selfpatch_nn::random::normal;

    #[test]
    fn every_path_gives_the_norm() -> Result<()> {
        for n in [1, 4095, 4096, 10_000] {
            let gradient = normal(1, n)?;
            let want = gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
            for dtype in [DType::F32, DType::F64] {
                let param = Var::zeros(n, dtype, &Device::Cpu)?;
                let grads = backward(&(param.as_tensor() * gradient.to_dtype(dtype)?)?.sum_all()?)?;
                let got = norm(&grads, &param)?.expect("a gradient");
                assert!((got - want).abs() < 1e-6 * want, "{n} {dtype:?}: {got}, not {want}");
            }
        }
        Ok(())
    }
}
