//! Exact (erf) GELU: `y = x Phi(x)`, `dy/dx = Phi(x) + x phi(x)`.

use super::{cpu, math};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Elements handled by one parallel task.
const CHUNK: usize = 16 * 1024;

/// GELU of every element; any shape, any float dtype.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if !cpu::fusible(x) {
        return reference(x);
    }
    x.contiguous()?.apply_op1(Gelu)
}

/// The same from candle's own ops. (`Tensor::gelu_erf` has a gradient of 8 digits only, in f64 too.)
pub fn reference(x: &Tensor) -> Result<Tensor> {
    (x * 0.5)? * ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu::slice(x, layout)?;
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
            cpu::wide(|| y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * math::normal_cdf(x)));
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        const INV_SQRT_2PI: f32 = 0.398_942_3;
        let dy = dy.contiguous()?;
        let mut dx = vec![0f32; x.elem_count()];
        cpu::with(x, |x| {
            cpu::with(&dy, |dy| {
                dx.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK).zip(dy.par_chunks(CHUNK))).for_each(
                    |(dx, (x, dy))| {
                        cpu::wide(|| {
                            for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                                let density = math::exp(-0.5 * x * x) * INV_SQRT_2PI;
                                *dx = dy * (math::normal_cdf(x) + x * density);
                            }
                        });
                    },
                );
                Ok(())
            })
        })?;
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
}
