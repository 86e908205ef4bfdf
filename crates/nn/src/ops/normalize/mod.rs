//! Rows of unit length: `y = x / max(|x|, 1e-12)` (torch's `normalize`).

#[cfg(feature = "cuda")]
mod cuda;
mod shortest;

use crate::kernel::{self, ROWS_PER_TASK, View};
use crate::precision::to_full;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use selfpatch_simd::wide;
use shortest::SHORTEST;

/// Normalises a tensor of any shape over the last dimension.
pub fn normalize(x: &Tensor) -> Result<Tensor> {
    if x.elem_count() == 0 {
        return reference(x);
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::fusible(x) {
        return cuda::normalize(x);
    }
    if !kernel::fusible(x) {
        return reference(x);
    }
    x.contiguous()?.apply_op1(Normalize)
}

/// Unit vectors from candle's own ops.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    let x = to_full(x)?;
    let length = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    x.broadcast_div(&length.maximum(f64::from(SHORTEST))?)
}

struct Normalize;

impl CustomOp1 for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = kernel::slice(x, layout)?;
        let n = layout.shape().dim(D::Minus1)?;
        let mut y = x.to_vec();
        y.par_chunks_mut(ROWS_PER_TASK * n).for_each(|rows| {
            wide!({
                for row in rows.chunks_exact_mut(n) {
                    // Divided, not multiplied by the reciprocal: a row's common rounding error would reach
                    // the logits, which small temperatures magnify.
                    let length = kernel::dot(row, row).sqrt().max(SHORTEST);
                    row.iter_mut().for_each(|x| *x /= length);
                }
            });
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    /// `dx = (dy - y (y . dy)) / |x|`; without the second term where the length was not the divisor.
    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let n = x.dim(D::Minus1)?;
        let dy = dy.contiguous()?;
        let (xs, ys, dys) = (View::of(x)?, View::of(y)?, View::of(&dy)?);
        let mut dx = dys.to_vec();
        let task = ROWS_PER_TASK * n;
        dx.par_chunks_mut(task).zip(xs.par_chunks(task).zip(ys.par_chunks(task))).for_each(|(dx, (x, y))| {
            wide!({
                for (dx, (x, y)) in dx.chunks_exact_mut(n).zip(x.chunks_exact(n).zip(y.chunks_exact(n))) {
                    let length = kernel::dot(x, x).sqrt();
                    let along = if length >= SHORTEST { kernel::dot(y, dx) } else { 0. };
                    let inverse = 1. / length.max(SHORTEST);
                    dx.iter_mut().zip(y).for_each(|(dx, y)| *dx = (*dx - y * along) * inverse);
                }
            });
        });
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{agrees, finite_differences};
    use candle_core::{Device, Result, Tensor};

    #[test]
    fn equals_reference() -> Result<()> {
        agrees(&[&[3, 70, 17]], |x| super::normalize(&x[0]), |x| super::reference(&x[0]))
    }

    #[test]
    fn gradient_is_the_slope() -> Result<()> {
        finite_differences(&[3, 5], super::normalize)
    }

    #[test]
    fn zero_stays_zero() -> Result<()> {
        let x = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu)?;
        assert_eq!(super::normalize(&x)?.to_vec2::<f32>()?, [[0.; 3]; 2]);
        Ok(())
    }
}
