//! Layer normalisation over the last dimension: `y = (x - mean) / sqrt(var + eps) * weight + bias`.

use super::cpu::{self, ROWS_PER_TASK};
use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `x [.., D]`, `weight [D]`, `bias [D]` -> `[.., D]`. Unlike `candle_nn::LayerNorm` it has a gradient.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let dim = x.dim(D::Minus1)?;
    if weight.dims() != [dim] || bias.dims() != [dim] {
        bail!(
            "layer norm over {dim} channels needs weight and bias [{dim}], not {:?} and {:?}",
            weight.dims(),
            bias.dims()
        )
    }
    if !cpu::fusible(x) {
        return reference(x, weight, bias, eps);
    }
    x.contiguous()?.apply_op3(weight, bias, LayerNorm { eps: eps as f32 })
}

/// The same from candle's own ops.
pub fn reference(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)?.broadcast_mul(weight)?.broadcast_add(bias)
}

struct LayerNorm {
    eps: f32,
}

/// Mean and 1 / standard deviation of a row.
#[inline(always)]
fn statistics(row: &[f32], eps: f32) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = cpu::sum(row) / n;
    let mut lanes = [0f32; 16];
    let chunks = row.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|x| (x - mean) * (x - mean)).sum();
    for x in chunks {
        for i in 0..16 {
            lanes[i] += (x[i] - mean) * (x[i] - mean);
        }
    }
    let variance = (lanes.iter().sum::<f32>() + rest) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w, b) = (cpu::slice(x, x_layout)?, cpu::slice(w, w_layout)?, cpu::slice(b, b_layout)?);
        let n = w.len();
        let mut y = vec![0f32; x.len()];
        let task = ROWS_PER_TASK * n;
        y.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(ys, xs)| {
            cpu::wide(|| {
                for (y, x) in ys.chunks_exact_mut(n).zip(xs.chunks_exact(n)) {
                    let (mean, inverse) = statistics(x, self.eps);
                    for i in 0..n {
                        y[i] = (x[i] - mean) * inverse * w[i] + b[i];
                    }
                }
            });
        });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let n = weight.elem_count();
        let dy = dy.contiguous()?;
        let weight = weight.contiguous()?;
        let mut dx = vec![0f32; x.elem_count()];
        let task = ROWS_PER_TASK * n;
        let partial: Vec<(Vec<f32>, Vec<f32>)> = cpu::with(x, |x| {
            cpu::with(&dy, |dy| {
                cpu::with(&weight, |w| {
                    Ok(dx
                        .par_chunks_mut(task)
                        .zip(x.par_chunks(task).zip(dy.par_chunks(task)))
                        .map(|(dxs, (xs, dys))| cpu::wide(|| self.rows_backward(dxs, xs, dys, w)))
                        .collect())
                })
            })
        })?;
        let (dw, db): (Vec<_>, Vec<_>) = partial.into_iter().unzip();
        let device = x.device();
        Ok((
            x.track_op().then(|| Tensor::from_vec(dx, x.shape(), device)).transpose()?,
            Some(Tensor::from_vec(cpu::add_up(dw, n), n, device)?),
            bias.track_op().then(|| Tensor::from_vec(cpu::add_up(db, n), n, device)).transpose()?,
        ))
    }
}

impl LayerNorm {
    /// Writes `dx` and returns the partial sums of `dw` and `db` over these rows.
    #[inline(always)]
    fn rows_backward(&self, dxs: &mut [f32], xs: &[f32], dys: &[f32], w: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let n = w.len();
        let (mut dw, mut db) = (vec![0f32; n], vec![0f32; n]);
        let (mut hat, mut g) = (vec![0f32; n], vec![0f32; n]);
        let rows = xs.chunks_exact(n).zip(dys.chunks_exact(n));
        for (dx, (x, dy)) in dxs.chunks_exact_mut(n).zip(rows) {
            let (mean, inverse) = statistics(x, self.eps);
            for i in 0..n {
                hat[i] = (x[i] - mean) * inverse;
                g[i] = dy[i] * w[i];
                dw[i] += dy[i] * hat[i];
                db[i] += dy[i];
            }
            let g_mean = cpu::sum(&g) / n as f32;
            let g_hat = cpu::dot(&g, &hat) / n as f32;
            for i in 0..n {
                dx[i] = inverse * (g[i] - g_mean - hat[i] * g_hat);
            }
        }
        (dw, db)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{agrees, finite_differences};
    use candle_core::{Device, Result, Tensor};

    #[test]
    fn equals_reference() -> Result<()> {
        agrees(
            &[&[3, 70, 17], &[17], &[17]],
            |x| super::layer_norm(&x[0], &x[1], &x[2], 1e-6),
            |x| super::reference(&x[0], &x[1], &x[2], 1e-6),
        )
    }

    #[test]
    fn gradient_is_the_slope() -> Result<()> {
        let w = Tensor::new(&[0.5f32, -1.0, 2.0, 0.3, 1.0], &Device::Cpu)?;
        let b = w.affine(0.1, 0.2)?;
        finite_differences(&[3, 5], |x| super::layer_norm(x, &w, &b, 1e-6))
    }

    #[test]
    fn wrong_width_is_an_error() -> Result<()> {
        let x = Tensor::zeros((2, 4), candle_core::DType::F32, &Device::Cpu)?;
        let w = Tensor::zeros(5, candle_core::DType::F32, &Device::Cpu)?;
        assert!(super::layer_norm(&x, &w, &w, 1e-6).is_err());
        Ok(())
    }
}
