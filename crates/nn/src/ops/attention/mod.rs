//! Multi-head self-attention within each sequence of a packed batch, from packed projections:
//! `P = softmax(Q K^T / sqrt(d))`, `out = P V`, head by head.

#[cfg(feature = "cuda")]
pub(in crate::ops) mod cuda;

use crate::kernel::{self, Buffer, Mat, View, gemm};
use crate::precision::to_full;
use crate::sequences::{Sequences, cut_mut};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use selfpatch_simd::wide;
use std::sync::Mutex;

/// Attention of `qkv [T, 3 D]` (queries, keys, values; heads side by side in each third) -> `[T, D]`.
pub fn attention(qkv: &Tensor, sequences: &Sequences, heads: usize) -> Result<Tensor> {
    let (rows, width) = qkv.dims2()?;
    check(width, heads)?;
    sequences.check(rows)?;
    #[cfg(feature = "cuda")]
    if crate::cuda::fusible(qkv) && cuda::fits(width / 3 / heads) {
        return cuda::attention(qkv, sequences, heads);
    }
    if !kernel::fusible(qkv) {
        return reference(qkv, sequences, heads);
    }
    let (qkv, sequences) = (qkv.contiguous()?, sequences.clone());
    if qkv.track_op() {
        qkv.apply_op1(Attention { heads, sequences, keep: true, probs: Mutex::new(None) })
    } else {
        qkv.apply_op1_no_bwd(&Attention { heads, sequences, keep: false, probs: Mutex::new(None) })
    }
}

/// Self-attention from candle's own ops.
pub fn reference(qkv: &Tensor, sequences: &Sequences, heads: usize) -> Result<Tensor> {
    let groups: Vec<Tensor> = sequences
        .split(qkv)?
        .iter()
        .map(|qkv| {
            let (b, n, width) = qkv.dims3()?;
            let v = third(qkv, heads, 2)?;
            attention_probs(qkv, heads)?.to_dtype(v.dtype())?.matmul(&v)?.transpose(1, 2)?.reshape((b, n, width / 3))
        })
        .collect::<Result<_>>()?;
    Sequences::join(&groups)
}

/// The attention probabilities alone: `qkv [B, N, 3 D]` -> `[B, heads, N, N]`, rows sum to 1.
pub fn attention_probs(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let width = qkv.dim(D::Minus1)?;
    check(width, heads)?;
    let scale = ((width / 3 / heads) as f64).powf(-0.5);
    let (q, k) = (third(qkv, heads, 0)?, third(qkv, heads, 1)?);
    candle_nn::ops::softmax(&(to_full(&q.matmul(&k.t()?)?)? * scale)?, D::Minus1)
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

/// Softmax of one row in place.
#[inline(always)]
pub(super) fn softmax_row(row: &mut [f32]) {
    let top = kernel::max(row);
    row.iter_mut().for_each(|x| *x = kernel::exp(*x - top));
    let inverse = 1.0 / kernel::sum(row);
    row.iter_mut().for_each(|x| *x *= inverse);
}

/// Number of probabilities of all heads of all sequences.
pub(super) fn probabilities(sequences: &Sequences, heads: usize) -> usize {
    sequences.lengths().iter().map(|n| heads * n * n).sum()
}

/// Sizes that all heads share.
#[derive(Clone, Copy)]
struct Dims {
    /// Width of a token, all heads.
    dim: usize,
    /// Width of one head.
    head: usize,
}

impl Dims {
    fn scale(self) -> f32 {
        (self.head as f32).powf(-0.5)
    }

    /// Head `h` of the queries (0), keys (1) or values (2) of one sequence; `[n, d]`, or `[d, n]`.
    fn part(self, qkv: &[f32], which: usize, h: usize, transposed: bool) -> Mat<'_> {
        let (row, data) = (3 * self.dim, &qkv[which * self.dim + h * self.head..]);
        if transposed { Mat { data, rows: 1, cols: row } } else { Mat { data, rows: row, cols: 1 } }
    }
}

/// One head of one sequence: fills `p [n, n]` and `out [n, d]`.
fn head_forward(dims: Dims, h: usize, qkv: &[f32], p: &mut [f32], out: &mut [f32]) {
    let (n, d) = (qkv.len() / (3 * dims.dim), dims.head);
    gemm((n, n, d), p, n, false, dims.scale(), dims.part(qkv, 0, h, false), dims.part(qkv, 1, h, true));
    wide!(for row in p.chunks_exact_mut(n) {
        softmax_row(row);
    });
    gemm((n, d, n), out, d, false, 1.0, Mat::dense(p, n), dims.part(qkv, 2, h, false));
}

/// One head of one sequence: fills `grad`, the gradients of queries, keys and values, `[n, d]` each.
/// With `dP = dO V^T` and `dS = P (dP - rowsum(P dP))`: `dQ = dS K`, `dK = dS^T Q` (both scaled),
/// `dV = P^T dO`. `ds [n, n]` is scratch.
fn head_backward(dims: Dims, h: usize, qkv: &[f32], p: &[f32], dout: &[f32], ds: &mut [f32], grad: &mut [f32]) {
    let (n, d) = (qkv.len() / (3 * dims.dim), dims.head);
    let dout = Mat { data: &dout[h * d..], rows: dims.dim, cols: 1 };
    let (dq, rest) = grad.split_at_mut(n * d);
    let (dk, dv) = rest.split_at_mut(n * d);
    gemm((n, d, n), dv, d, false, 1.0, Mat::transposed(p, n), dout);
    gemm((n, n, d), ds, n, false, 1.0, dout, dims.part(qkv, 2, h, true));
    wide!({
        for (ds, p) in ds.chunks_exact_mut(n).zip(p.chunks_exact(n)) {
            let mean = kernel::dot(ds, p);
            ds.iter_mut().zip(p).for_each(|(ds, p)| *ds = p * (*ds - mean));
        }
    });
    gemm((n, d, n), dq, d, false, dims.scale(), Mat::dense(ds, n), dims.part(qkv, 1, h, false));
    gemm((n, d, n), dk, d, false, dims.scale(), Mat::transposed(ds, n), dims.part(qkv, 0, h, false));
}

/// One task per head of each sequence, in order.
fn tasks(sequences: &Sequences, heads: usize) -> Vec<(usize, usize)> {
    (0..sequences.count()).flat_map(|s| (0..heads).map(move |h| (s, h))).collect()
}

/// Fills `out [T, D]`, and `probs` (all heads' `[n, n]`, one after the other) if they are to be kept.
pub(super) fn forward(qkv: &[f32], sequences: &Sequences, heads: usize, probs: Option<&mut [f32]>, out: &mut [f32]) {
    let dim = qkv.len() / sequences.tokens().max(1) / 3;
    let dims = Dims { dim, head: dim / heads };
    let parts = sequences.cut(qkv, 3 * dim);
    let each = |width: usize| sequences.lengths().iter().flat_map(move |n| std::iter::repeat_n(n * width, heads));
    let mut by_head = Buffer::stale(out.len());
    let outs = cut_mut(&mut by_head, each(dims.head));
    let tasks = tasks(sequences, heads).into_par_iter().zip(outs);
    match probs {
        Some(probs) => {
            let squares = sequences.lengths().iter().flat_map(|n| std::iter::repeat_n(n * n, heads));
            tasks
                .zip(cut_mut(probs, squares))
                .with_max_len(1)
                .for_each(|(((s, h), out), p)| head_forward(dims, h, parts[s], p, out));
        }
        None => {
            let largest = sequences.lengths().iter().max().map_or(0, |n| n * n);
            tasks.with_max_len(1).for_each_init(
                || Buffer::stale(largest),
                |p, ((s, h), out)| {
                    let n = parts[s].len() / (3 * dim).max(1);
                    head_forward(dims, h, parts[s], &mut p[..n * n], out);
                },
            );
        }
    }
    // Heads side by side.
    let by_sequence = sequences.cut(&by_head, dim);
    sequences.cut_mut(out, dim).into_par_iter().zip(by_sequence).for_each(|(out, heads)| {
        let n = out.len() / dim.max(1);
        for (h, head) in heads.chunks_exact((n * dims.head).max(1)).enumerate() {
            for (out, head) in out.chunks_exact_mut(dim).zip(head.chunks_exact(dims.head)) {
                out[h * dims.head..][..dims.head].copy_from_slice(head);
            }
        }
    });
}

/// Fills `dqkv [T, 3 D]`.
pub(super) fn backward(
    (qkv, probs): (&[f32], &[f32]),
    sequences: &Sequences,
    heads: usize,
    dout: &[f32],
    dqkv: &mut [f32],
) {
    let dim = qkv.len() / sequences.tokens().max(1) / 3;
    let dims = Dims { dim, head: dim / heads };
    let (qkvs, douts) = (sequences.cut(qkv, 3 * dim), sequences.cut(dout, dim));
    let starts: Vec<usize> = sequences
        .lengths()
        .iter()
        .scan(0, |end, n| {
            let start = *end;
            *end += heads * n * n;
            Some(start)
        })
        .collect();
    let mut by_head = Buffer::stale(dqkv.len());
    let sizes = sequences.lengths().iter().flat_map(|n| std::iter::repeat_n(3 * n * dims.head, heads));
    let largest = sequences.lengths().iter().max().map_or(0, |n| n * n);
    tasks(sequences, heads).into_par_iter().zip(cut_mut(&mut by_head, sizes)).with_max_len(1).for_each_init(
        || Buffer::stale(largest),
        |ds, ((s, h), grad)| {
            let square = sequences.lengths()[s].pow(2);
            let p = &probs[starts[s] + h * square..][..square];
            head_backward(dims, h, qkvs[s], p, douts[s], &mut ds[..square], grad);
        },
    );
    let by_sequence = sequences.cut(&by_head, 3 * dim);
    sequences.cut_mut(dqkv, 3 * dim).into_par_iter().zip(by_sequence).for_each(|(out, heads)| {
        let n = out.len() / (3 * dim).max(1);
        for (i, part) in heads.chunks_exact((n * dims.head).max(1)).enumerate() {
            let at = i % 3 * dim + i / 3 * dims.head; // head i / 3 of third i % 3
            for (out, part) in out.chunks_exact_mut(3 * dim).zip(part.chunks_exact(dims.head)) {
                out[at..][..dims.head].copy_from_slice(part);
            }
        }
    });
}

struct Attention {
    heads: usize,
    sequences: Sequences,
    /// Whether the probabilities are kept for the backward pass.
    keep: bool,
    /// Probabilities, taken by the backward pass.
    probs: Mutex<Option<Buffer>>,
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let qkv = kernel::slice(qkv, layout)?;
        let mut out = vec![0f32; rows * width / 3];
        let mut probs = self.keep.then(|| Buffer::stale(probabilities(&self.sequences, self.heads)));
        forward(qkv, &self.sequences, self.heads, probs.as_deref_mut(), &mut out);
        if let Ok(mut slot) = self.probs.lock() {
            *slot = probs;
        }
        Ok((CpuStorage::F32(out), Shape::from((rows, width / 3))))
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, dout: &Tensor) -> Result<Option<Tensor>> {
        let Some(probs) = self.probs.lock().ok().and_then(|mut slot| slot.take()) else {
            bail!("the backward pass of attention can run only once per forward pass")
        };
        let dout = dout.contiguous()?;
        let mut dqkv = vec![0f32; qkv.elem_count()];
        backward((&View::of(qkv)?, &probs), &self.sequences, self.heads, &View::of(&dout)?, &mut dqkv);
        Tensor::from_vec(dqkv, qkv.shape(), qkv.device()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use crate::Sequences;
    use crate::testing::{agrees, finite_differences};
    use candle_core::{DType, Device, Result, Tensor};

    #[test]
    fn equals_reference() -> Result<()> {
        for groups in [&[(1, 13)][..], &[(5, 13)], &[(2, 13), (3, 1), (1, 70)]] {
            let s = Sequences::new(groups);
            agrees(&[&[s.tokens(), 3 * 12]], |x| super::attention(&x[0], &s, 3), |x| super::reference(&x[0], &s, 3))?;
        }
        Ok(())
    }

    #[test]
    fn without_gradient_equals_with() -> Result<()> {
        let s = Sequences::new(&[(3, 7)]);
        let x = crate::random::normal(1, (21, 24))?;
        let tracked = candle_core::Var::from_tensor(&x)?;
        let (a, b) = (super::attention(&x, &s, 2)?, super::attention(tracked.as_tensor(), &s, 2)?);
        assert_eq!(a.to_vec2::<f32>()?, b.to_vec2::<f32>()?);
        Ok(())
    }

    #[test]
    fn gradient_is_the_slope() -> Result<()> {
        let s = Sequences::new(&[(1, 2), (1, 4)]);
        finite_differences(&[6, 12], |x| super::attention(x, &s, 2))
    }

    #[test]
    fn heads_and_rows_must_fit() -> Result<()> {
        let (x, s) = (Tensor::zeros((2, 12), DType::F32, &Device::Cpu)?, Sequences::new(&[(1, 2)]));
        assert!(super::attention(&x, &s, 3).is_err() && super::attention(&x, &s, 0).is_err());
        assert!(super::attention(&x, &Sequences::new(&[(1, 3)]), 2).is_err());
        Ok(())
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn cuda_equals_reference() -> Result<()> {
        use crate::testing::{Case, equal_in_every_precision};
        // Tensor cores (32, 64, 128) and the other kernels; whole tiles and parts of them.
        for (d, groups) in [(32, &[(2, 70)][..]), (64, &[(2, 5), (1, 97)]), (128, &[(1, 33)]), (6, &[(2, 40), (1, 1)])]
        {
            let s = Sequences::new(groups);
            equal_in_every_precision(Case {
                inputs: &[&[s.tokens(), 3 * 2 * d]],
                build: |_: candle_nn::VarBuilder| Ok(()),
                fused: |x: &[Tensor], _: &()| {
                    super::attention(&x[0].to_dtype(crate::Precision::current().dtype())?, &s, 2)
                },
                reference: |x: &[Tensor], _: &()| super::reference(&x[0], &s, 2),
            })?;
        }
        Ok(())
    }
}
