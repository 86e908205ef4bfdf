//! Multi-head self-attention from packed projections:
//! `P = softmax(Q K^T / sqrt(d))`, `out = P V`, head by head.

use super::cpu::{self, Mat};
use super::math;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::Mutex;

/// `qkv [B, N, 3 D]` (queries, keys, values; heads side by side in each third) -> `[B, N, D]`.
pub fn attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (_, _, width) = qkv.dims3()?;
    check(width, heads)?;
    if !cpu::fusible(qkv) {
        return reference(qkv, heads);
    }
    let qkv = qkv.contiguous()?;
    if qkv.track_op() {
        qkv.apply_op1(Attention { heads, keep: true, probs: Mutex::new(None) })
    } else {
        qkv.apply_op1_no_bwd(&Attention { heads, keep: false, probs: Mutex::new(None) })
    }
}

/// The same from candle's own ops.
pub fn reference(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, n, width) = qkv.dims3()?;
    let v = third(qkv, heads, 2)?;
    attention_probs(qkv, heads)?.matmul(&v)?.transpose(1, 2)?.reshape((b, n, width / 3))
}

/// The attention probabilities alone: `qkv [B, N, 3 D]` -> `[B, heads, N, N]`, rows sum to 1.
pub fn attention_probs(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let width = qkv.dim(D::Minus1)?;
    check(width, heads)?;
    let scale = ((width / 3 / heads) as f64).powf(-0.5);
    let (q, k) = (third(qkv, heads, 0)?, third(qkv, heads, 1)?);
    candle_nn::ops::softmax(&(q.matmul(&k.t()?)? * scale)?, D::Minus1)
}

/// One third of the packed projections, `[B, heads, N, d]`.
fn third(qkv: &Tensor, heads: usize, which: usize) -> Result<Tensor> {
    let (b, n, width) = qkv.dims3()?;
    let dim = width / 3;
    qkv.narrow(2, which * dim, dim)?.reshape((b, n, heads, dim / heads))?.transpose(1, 2)?.contiguous()
}

fn check(width: usize, heads: usize) -> Result<()> {
    if heads == 0 || !width.is_multiple_of(3 * heads) {
        bail!("attention over {width} packed channels cannot have {heads} heads")
    }
    Ok(())
}

struct Attention {
    heads: usize,
    /// Whether the probabilities are kept for the backward pass.
    keep: bool,
    /// `[B, heads, N, N]`, taken by the backward pass.
    probs: Mutex<Option<Vec<f32>>>,
}

/// Sizes of one call.
#[derive(Clone, Copy)]
struct Dims {
    n: usize,
    dim: usize,
    heads: usize,
}

impl Dims {
    fn head(self) -> usize {
        self.dim / self.heads
    }

    fn scale(self) -> f32 {
        (self.head() as f32).powf(-0.5)
    }

    /// Head `h` of the queries (0), keys (1) or values (2) in one sample's packed projections.
    fn part(self, qkv: &[f32], which: usize, h: usize) -> &[f32] {
        &qkv[which * self.dim + h * self.head()..]
    }
}

fn softmax_row(row: &mut [f32]) {
    cpu::wide(|| {
        let top = cpu::max(row);
        row.iter_mut().for_each(|x| *x = math::exp(*x - top));
        let inverse = 1.0 / cpu::sum(row);
        row.iter_mut().for_each(|x| *x *= inverse);
    });
}

/// One sample: fills `probs [heads, N, N]` (or reuses its first `N * N` for every head) and `out [N, D]`.
fn sample_forward(dims: Dims, qkv: &[f32], probs: &mut [f32], out: &mut [f32], parallel: bool) {
    let Dims { n, dim, heads } = dims;
    let (d, row) = (dims.head(), 3 * dim);
    let keep = probs.len() == heads * n * n;
    for h in 0..heads {
        let at = if keep { h * n * n } else { 0 };
        let p = &mut probs[at..at + n * n];
        let q = Mat { data: dims.part(qkv, 0, h), rows: row, cols: 1 };
        let k = Mat { data: dims.part(qkv, 1, h), rows: 1, cols: row };
        let v = Mat { data: dims.part(qkv, 2, h), rows: row, cols: 1 };
        cpu::gemm((n, n, d), p, n, false, dims.scale(), q, k, parallel);
        if parallel {
            p.par_chunks_mut(n).for_each(softmax_row);
        } else {
            p.chunks_mut(n).for_each(softmax_row);
        }
        let p = Mat { data: p, rows: n, cols: 1 };
        cpu::gemm((n, d, n), &mut out[h * d..], dim, false, 1.0, p, v, parallel);
    }
}

/// One sample: writes the gradient `dqkv [N, 3 D]`. With `dS = P (dP - rowsum(P dP))` and
/// `dP = dO V^T`: `dQ = dS K`, `dK = dS^T Q` (both scaled), `dV = P^T dO`.
fn sample_backward(dims: Dims, qkv: &[f32], probs: &[f32], dout: &[f32], dqkv: &mut [f32], parallel: bool) {
    let Dims { n, dim, heads } = dims;
    let (d, row) = (dims.head(), 3 * dim);
    let mut ds = vec![0f32; n * n];
    for h in 0..heads {
        let p = &probs[h * n * n..][..n * n];
        let head = |which: usize, transposed: bool| Mat {
            data: dims.part(qkv, which, h),
            rows: if transposed { 1 } else { row },
            cols: if transposed { row } else { 1 },
        };
        let dout = Mat { data: &dout[h * d..], rows: dim, cols: 1 };
        let at = |which: usize| which * dim + h * d;
        let p_t = Mat { data: p, rows: 1, cols: n };
        cpu::gemm((n, d, n), &mut dqkv[at(2)..], row, false, 1.0, p_t, dout, parallel);
        cpu::gemm((n, n, d), &mut ds, n, false, 1.0, dout, head(2, true), parallel);
        cpu::wide(|| {
            for (ds, p) in ds.chunks_exact_mut(n).zip(p.chunks_exact(n)) {
                let mean = cpu::dot(ds, p);
                ds.iter_mut().zip(p).for_each(|(ds, p)| *ds = p * (*ds - mean));
            }
        });
        let (ds_n, ds_t) = (Mat { data: &ds, rows: n, cols: 1 }, Mat { data: &ds, rows: 1, cols: n });
        let scale = dims.scale();
        cpu::gemm((n, d, n), &mut dqkv[at(0)..], row, false, scale, ds_n, head(1, false), parallel);
        cpu::gemm((n, d, n), &mut dqkv[at(1)..], row, false, scale, ds_t, head(0, false), parallel);
    }
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, n, width) = layout.shape().dims3()?;
        let dims = Dims { n, dim: width / 3, heads: self.heads };
        let qkv = cpu::slice(qkv, layout)?;
        let mut out = vec![0f32; b * n * dims.dim];
        let inner = b < rayon::current_num_threads();
        let (sample_in, sample_out, square) = ((n * width).max(1), (n * dims.dim).max(1), n * n);
        if self.keep {
            let mut probs = vec![0f32; b * self.heads * square];
            let work =
                |((out, qkv), probs): ((&mut [f32], &[f32]), &mut [f32])| sample_forward(dims, qkv, probs, out, inner);
            let per_sample = (self.heads * square).max(1);
            if inner {
                let samples = out.chunks_mut(sample_out).zip(qkv.chunks(sample_in));
                samples.zip(probs.chunks_mut(per_sample)).for_each(work);
            } else {
                let samples = out.par_chunks_mut(sample_out).zip(qkv.par_chunks(sample_in));
                samples.zip(probs.par_chunks_mut(per_sample)).for_each(work);
            }
            if let Ok(mut slot) = self.probs.lock() {
                *slot = Some(probs);
            }
        } else if inner {
            let mut probs = vec![0f32; square];
            for (out, qkv) in out.chunks_mut(sample_out).zip(qkv.chunks(sample_in)) {
                sample_forward(dims, qkv, &mut probs, out, true);
            }
        } else {
            out.par_chunks_mut(sample_out)
                .zip(qkv.par_chunks(sample_in))
                .for_each_init(|| vec![0f32; square], |probs, (out, qkv)| sample_forward(dims, qkv, probs, out, false));
        }
        Ok((CpuStorage::F32(out), Shape::from((b, n, dims.dim))))
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, dout: &Tensor) -> Result<Option<Tensor>> {
        let (b, n, width) = qkv.dims3()?;
        let dims = Dims { n, dim: width / 3, heads: self.heads };
        let Some(probs) = self.probs.lock().ok().and_then(|mut slot| slot.take()) else {
            bail!("the backward pass of attention can run only once per forward pass")
        };
        let dout = dout.contiguous()?;
        let mut dqkv = vec![0f32; b * n * width];
        let inner = b < rayon::current_num_threads();
        cpu::with(qkv, |qkv| {
            cpu::with(&dout, |dout| {
                let per_sample = self.heads * n * n;
                let work = |(i, dqkv): (usize, &mut [f32])| {
                    let qkv = &qkv[i * n * width..][..n * width];
                    let probs = &probs[i * per_sample..][..per_sample];
                    let dout = &dout[i * n * dims.dim..][..n * dims.dim];
                    sample_backward(dims, qkv, probs, dout, dqkv, inner);
                };
                let size = (n * width).max(1);
                if inner {
                    dqkv.chunks_mut(size).enumerate().for_each(work);
                } else {
                    dqkv.par_chunks_mut(size).enumerate().for_each(work);
                }
                Ok(())
            })
        })?;
        Tensor::from_vec(dqkv, (b, n, width), qkv.device()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{agrees, finite_differences};
    use candle_core::{DType, Device, Result, Tensor};

    #[test]
    fn equals_reference() -> Result<()> {
        for b in [1, 5] {
            agrees(&[&[b, 13, 3 * 12]], |x| super::attention(&x[0], 3), |x| super::reference(&x[0], 3))?;
        }
        Ok(())
    }

    #[test]
    fn without_gradient_equals_with() -> Result<()> {
        let x = crate::random::normal(1, (3, 7, 24))?;
        let tracked = candle_core::Var::from_tensor(&x)?;
        let (a, b) = (super::attention(&x, 2)?, super::attention(tracked.as_tensor(), 2)?);
        assert_eq!(a.flatten_all()?.to_vec1::<f32>()?, b.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn gradient_is_the_slope() -> Result<()> {
        finite_differences(&[2, 3, 12], |x| super::attention(x, 2))
    }

    #[test]
    fn heads_must_divide_the_width() -> Result<()> {
        let x = Tensor::zeros((1, 2, 12), DType::F32, &Device::Cpu)?;
        assert!(super::attention(&x, 3).is_err() && super::attention(&x, 0).is_err());
        Ok(())
    }
}
