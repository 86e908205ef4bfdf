//! Weight normalisation: each row of `v` is scaled to length `g`: `w_r = g_r v_r / |v_r|`.

use crate::kernel::{self, ROWS_PER_TASK};
use crate::wide;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `v [O, I]`, `g [O, 1]` -> `[O, I]` (torch's `weight_norm` with `dim = 0`).
pub fn weight_norm(v: &Tensor, g: &Tensor) -> Result<Tensor> {
    let (rows, _) = v.dims2()?;
    if g.dims() != [rows, 1] {
        bail!("weight norm of {:?} needs a gain [{rows}, 1], not {:?}", v.dims(), g.dims())
    }
    if !kernel::fusible(v) {
        return reference(v, g);
    }
    v.contiguous()?.apply_op2(&g.contiguous()?, WeightNorm)
}

/// The same from candle's own ops.
pub fn reference(v: &Tensor, g: &Tensor) -> Result<Tensor> {
    v.broadcast_mul(&(g / v.sqr()?.sum_keepdim(1)?.sqrt()?)?)
}

struct WeightNorm;

impl CustomOp2 for WeightNorm {
    fn name(&self) -> &'static str {
        "weight-norm"
    }

    fn cpu_fwd(&self, v: &CpuStorage, vl: &Layout, g: &CpuStorage, gl: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, n) = vl.shape().dims2()?;
        let (v, g) = (kernel::slice(v, vl)?, kernel::slice(g, gl)?);
        let mut w = vec![0f32; v.len()];
        w.par_chunks_exact_mut(n.max(1)).with_min_len(ROWS_PER_TASK).zip(v.par_chunks_exact(n.max(1)).zip(g)).for_each(
            |(w, (v, g))| {
                wide!({
                    let scale = g / kernel::dot(v, v).sqrt();
                    w.iter_mut().zip(v).for_each(|(w, v)| *w = v * scale);
                });
            },
        );
        Ok((CpuStorage::F32(w), vl.shape().clone()))
    }

    /// With `u = v / |v|`: `dv = g / |v| (dw - u (u . dw))`, `dg = u . dw`.
    fn bwd(&self, v: &Tensor, g: &Tensor, _w: &Tensor, dw: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (rows, n) = v.dims2()?;
        let dw = dw.contiguous()?;
        let (mut dv, mut dg) = (vec![0f32; rows * n], vec![0f32; rows]);
        kernel::with(v, |v| {
            kernel::with(g, |g| {
                kernel::with(&dw, |dw| {
                    dv.par_chunks_exact_mut(n.max(1))
                        .with_min_len(ROWS_PER_TASK)
                        .zip(&mut dg)
                        .zip(v.par_chunks_exact(n.max(1)).zip(dw.par_chunks_exact(n.max(1))).zip(g))
                        .for_each(|((dv, dg), ((v, dw), g))| {
                            let inverse = 1.0 / kernel::dot(v, v).sqrt();
                            let along = kernel::dot(v, dw) * inverse;
                            *dg = along;
                            for ((dv, v), dw) in dv.iter_mut().zip(v).zip(dw) {
                                *dv = g * inverse * (dw - v * inverse * along);
                            }
                        });
                    Ok(())
                })
            })
        })?;
        Ok((
            v.track_op().then(|| Tensor::from_vec(dv, (rows, n), v.device())).transpose()?,
            g.track_op().then(|| Tensor::from_vec(dg, (rows, 1), v.device())).transpose()?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{agrees, finite_differences};
    use candle_core::{Device, Result, Tensor};

    #[test]
    fn equals_reference() -> Result<()> {
        agrees(&[&[70, 9], &[70, 1]], |x| super::weight_norm(&x[0], &x[1]), |x| super::reference(&x[0], &x[1]))
    }

    #[test]
    fn gradient_is_the_slope() -> Result<()> {
        let g = Tensor::new(&[[1.5f32], [0.7]], &Device::Cpu)?;
        finite_differences(&[2, 4], |v| super::weight_norm(v, &g))
    }
}
