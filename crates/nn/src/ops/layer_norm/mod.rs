//! Layer normalisation over the last dimension: `y = (x - mean) / sqrt(var + eps) * weight + bias`.

#[cfg(feature = "cuda")]
pub(in crate::ops) mod branch;
#[cfg(feature = "cuda")]
pub(in crate::ops) mod cuda;
pub(super) mod norm;

use crate::kernel::{self, ROWS_PER_TASK, View};
use crate::precision::to_full;
use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use selfpatch_simd::wide;

/// Layer norm of `x [.., D]` with `weight [D]`, `bias [D]` -> `[.., D]`; `candle_nn::LayerNorm` has no gradient.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let dim = x.dim(D::Minus1)?;
    if weight.dims() != [dim] || bias.dims() != [dim] {
        bail!(
            "layer norm over {dim} channels needs weight and bias [{dim}], not {:?} and {:?}",
            weight.dims(),
            bias.dims()
        )
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::fusible(x) && crate::cuda::holds([weight, bias]) && cuda::fits(dim) {
        return cuda::layer_norm(x, weight, bias, eps);
    }
    if !kernel::fusible(x) {
        return reference(x, weight, bias, eps);
    }
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, LayerNorm { eps: eps as f32 })
}

/// Layer norm from candle's own ops.
pub fn reference(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let x = to_full(x)?;
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)?.broadcast_mul(weight)?.broadcast_add(bias)
}

/// Normalises the rows of `x` (`[rows, n]`): writes `hat = (x - mean) / sd` and `1 / sd` where asked to
/// keep them, and `y = hat * weight + bias`.
fn forward_rows(x: &[f32], (w, b): (&[f32], &[f32]), eps: f32, kept: Option<(&mut [f32], &mut [f32])>, y: &mut [f32]) {
    let n = w.len();
    wide!(match kept {
        None => {
            for (y, x) in y.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
                let (mean, inverse) = statistics(x, eps);
                for i in 0..n {
                    y[i] = (x[i] - mean) * inverse * w[i] + b[i];
                }
            }
        }
        Some((hat, inv)) => {
            let outputs = y.chunks_exact_mut(n).zip(hat.chunks_exact_mut(n)).zip(inv);
            for (((y, hat), inv), x) in outputs.zip(x.chunks_exact(n)) {
                let (mean, inverse) = statistics(x, eps);
                *inv = inverse;
                for i in 0..n {
                    hat[i] = (x[i] - mean) * inverse;
                    y[i] = hat[i] * w[i] + b[i];
                }
            }
        }
    });
}

/// Computes `y = hat * weight + bias` once more.
fn affine_rows(hat: &[f32], (w, b): (&[f32], &[f32]), y: &mut [f32]) {
    let n = w.len();
    wide!({
        for (y, hat) in y.chunks_exact_mut(n).zip(hat.chunks_exact(n)) {
            for i in 0..n {
                y[i] = hat[i] * w[i] + b[i];
            }
        }
    });
}

/// Adds the gradient of the rows to `dx` and returns those of weight and bias. With `g = dy * weight`:
/// `dx = (g - mean(g) - hat mean(g hat)) / sd`.
fn backward_rows(hat: &[f32], inv: &[f32], dy: &[f32], w: &[f32], dx: &mut [f32]) -> (Vec<f32>, Vec<f32>) {
    let n = w.len();
    let (mut dw, mut db, mut g) = (vec![0f32; n], vec![0f32; n], vec![0f32; n]);
    wide!({
        let rows = hat.chunks_exact(n).zip(dy.chunks_exact(n)).zip(inv);
        for (dx, ((hat, dy), &inverse)) in dx.chunks_exact_mut(n).zip(rows) {
            for i in 0..n {
                g[i] = dy[i] * w[i];
                dw[i] += dy[i] * hat[i];
                db[i] += dy[i];
            }
            let g_mean = kernel::sum(&g) / n as f32;
            let g_hat = kernel::dot(&g, hat) / n as f32;
            for i in 0..n {
                dx[i] += inverse * (g[i] - g_mean - hat[i] * g_hat);
            }
        }
    });
    (dw, db)
}

/// Mean and 1 / standard deviation of a row.
#[inline(always)]
fn statistics(row: &[f32], eps: f32) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = kernel::sum(row) / n;
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

struct LayerNorm {
    eps: f32,
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
        let (x, w, b) = (kernel::slice(x, x_layout)?, kernel::slice(w, w_layout)?, kernel::slice(b, b_layout)?);
        let mut y = vec![0f32; x.len()];
        let task = ROWS_PER_TASK * w.len();
        y.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(y, x)| forward_rows(x, (w, b), self.eps, None, y));
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
        let (w, b) = (View::of(weight)?, View::of(bias)?);
        let (x_view, dy) = (View::of(x)?, View::of(&dy)?);
        let (w, b, x_view, dy): (&[f32], &[f32], &[f32], &[f32]) = (&w, &b, &x_view, &dy);
        let mut dx = vec![0f32; x.elem_count()];
        let task = ROWS_PER_TASK * n;
        let partial: Vec<(Vec<f32>, Vec<f32>)> = dx
            .par_chunks_mut(task)
            .zip(x_view.par_chunks(task).zip(dy.par_chunks(task)))
            .map(|(dx, (x, dy))| {
                let (mut hat, mut inv, mut y) = (vec![0f32; x.len()], vec![0f32; x.len() / n], vec![0f32; x.len()]);
                forward_rows(x, (w, b), self.eps, Some((&mut hat, &mut inv)), &mut y);
                backward_rows(&hat, &inv, dy, w, dx)
            })
            .collect();
        let (dw, db): (Vec<_>, Vec<_>) = partial.into_iter().unzip();
        let device = x.device();
        Ok((
            x.track_op().then(|| Tensor::from_vec(dx, x.shape(), device)).transpose()?,
            weight.track_op().then(|| Tensor::from_vec(kernel::add_up(dw, n), n, device)).transpose()?,
            bias.track_op().then(|| Tensor::from_vec(kernel::add_up(db, n), n, device)).transpose()?,
        ))
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

    #[cfg(feature = "cuda")]
    #[test]
    fn cuda_equals_reference() -> Result<()> {
        use crate::testing::{Case, equal_in_every_precision};
        for (rows, dim) in [(1, 4), (70, 17), (9, 384), (2100, 36)] {
            equal_in_every_precision(Case {
                inputs: &[&[rows, dim]],
                build: |vb: candle_nn::VarBuilder| crate::LayerNorm::new(dim, 1e-6, vb),
                fused: |x: &[Tensor], n: &crate::LayerNorm| n.forward(&x[0]),
                reference: |x: &[Tensor], n: &crate::LayerNorm| super::reference(&x[0], &n.weight, &n.bias, n.eps),
            })?;
        }
        Ok(())
    }
}
