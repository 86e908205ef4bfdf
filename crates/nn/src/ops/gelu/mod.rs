//! Exact (erf) GELU: `y = x Phi(x)`, `dy/dx = Phi(x) + x phi(x)`.

#[cfg(feature = "cuda")]
pub(in crate::ops) mod cuda;

use crate::kernel::{self, normal_cdf};
use crate::precision::to_full;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use selfpatch_simd::wide;

/// Elements handled by one parallel task.
const CHUNK: usize = 16 * 1024;

/// GELU of every element; any shape, any float dtype.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if crate::cuda::fusible(x) && x.rank() > 0 {
        return cuda::gelu(x);
    }
    if !kernel::fusible(x) {
        return reference(x);
    }
    x.contiguous()?.apply_op1(Gelu)
}

/// GELU from candle's own ops. (`Tensor::gelu_erf` has a gradient of 8 digits only, in f64 too.)
pub fn reference(x: &Tensor) -> Result<Tensor> {
    let full = to_full(x)?;
    ((&full * 0.5)? * ((&full * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?)?.to_dtype(x.dtype())
}

/// `y = gelu(x)`.
pub(super) fn forward(x: &[f32], y: &mut [f32]) {
    wide!(y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * normal_cdf(x)));
}

/// Adds `bias` to every row of `x`, then `y = gelu(x)`.
pub(super) fn forward_biased(x: &mut [f32], bias: &[f32], y: &mut [f32]) {
    let n = bias.len();
    wide!({
        for (x, y) in x.chunks_exact_mut(n).zip(y.chunks_exact_mut(n)) {
            for ((x, y), b) in x.iter_mut().zip(y).zip(bias) {
                *x += b;
                *y = *x * normal_cdf(*x);
            }
        }
    });
}

/// `d *= gelu'(x)` given `y = gelu(x)`, from which `Phi(x) = y / x` comes without its series.
pub(super) fn backward(x: &[f32], y: &[f32], d: &mut [f32]) {
    const INV_SQRT_2PI: f32 = 0.398_942_3;
    wide!({
        for ((d, &x), &y) in d.iter_mut().zip(x).zip(y) {
            let cdf = if x == 0. { 0.5 } else { y / x };
            *d *= cdf + x * INV_SQRT_2PI * kernel::exp(-0.5 * x * x);
        }
    });
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = kernel::slice(x, layout)?;
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| forward(x, y));
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let mut dx = vec![0f32; x.elem_count()];
        let (x_view, y, dy) = (kernel::View::of(x)?, kernel::View::of(y)?, kernel::View::of(&dy)?);
        dx.par_chunks_mut(CHUNK)
            .zip(x_view.par_chunks(CHUNK).zip(y.par_chunks(CHUNK)).zip(dy.par_chunks(CHUNK)))
            .for_each(|(dx, ((x, y), dy))| {
                dx.copy_from_slice(dy);
                backward(x, y, dx);
            });
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{agrees, finite_differences};
    use candle_core::Result;

    #[test]
    fn equals_reference() -> Result<()> {
        agrees(&[&[3, 5, 17]], |x| super::gelu(&x[0]), |x| super::reference(&x[0]))?;
        agrees(&[&[40_000]], |x| super::gelu(&x[0]), |x| super::reference(&x[0]))
    }

    #[test]
    fn gradient_is_the_slope() -> Result<()> {
        finite_differences(&[4, 5], super::gelu)
    }

    #[test]
    fn slope_is_right_at_zero_and_in_the_tails() {
        let x = [0f32, -0.0, 1e-30, -1e-38, 12., -6., -40.];
        let (mut y, mut d) = ([0f32; 7], [1f32; 7]);
        super::forward(&x, &mut y);
        super::backward(&x, &y, &mut d);
        for (got, want) in d.into_iter().zip([0.5, 0.5, 0.5, 0.5, 1., -3.6e-8, 0.]) {
            assert!((got - want).abs() < 2e-7, "{got} {want}");
        }
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn cuda_equals_reference() -> Result<()> {
        use crate::testing::{Case, equal_in_every_precision};
        for shape in [&[3, 70][..], &[5, 24], &[1, 1], &[40, 7]] {
            equal_in_every_precision(Case {
                inputs: &[shape],
                build: |_: candle_nn::VarBuilder| Ok(()),
                fused: |x: &[super::Tensor], _: &()| super::gelu(&x[0].to_dtype(crate::Precision::current().dtype())?),
                reference: |x: &[super::Tensor], _: &()| super::reference(&x[0]),
            })?;
        }
        Ok(())
    }
}
