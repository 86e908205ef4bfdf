//! The kernels of one class-attention block, forward and backward; see [`super::class_attention`].
//!
//! The rows of all tokens and, after them, those of the queries are normalised and projected to keys
//! and values together.

use super::class_attention::attend::{attend, read};
use super::gelu;
use super::layer_norm::norm::Norm;
use super::linear::add_bias;
use super::linear::affine::Affine;
use crate::gradients::deposit;
use crate::kernel::{self, Buffer, Mat, ROWS_PER_TASK, View, gemm_parallel, matmul_rows};
use crate::{ClassBlock, Linear, Sequences};
use candle_core::{Result, Tensor};
use rayon::prelude::*;
use selfpatch_simd::wide;

/// All parameters of a block, borrowed; keys and values side by side.
pub(super) struct ClassBlockWeights<'a> {
    pub norm1: Norm<'a>,
    pub q: Affine<'a>,
    /// Weights of keys and values, `[2 D, D]`.
    pub kv: Vec<f32>,
    /// Biases of keys and values, `[2 D]`.
    pub kv_bias: Vec<f32>,
    pub proj: Affine<'a>,
    pub norm2: Norm<'a>,
    pub fc1: Affine<'a>,
    pub fc2: Affine<'a>,
    pub heads: usize,
}

impl<'a> ClassBlockWeights<'a> {
    pub(super) fn of(block: &'a ClassBlock) -> Result<Self> {
        Self::forward_of(block, 0)
    }

    /// Weights prepared for a forward pass in which `rows` queries run through all layers.
    pub(super) fn forward_of(block: &'a ClassBlock, rows: usize) -> Result<Self> {
        let both = |k: &Tensor, v: &Tensor| -> Result<Vec<f32>> { Ok([&*View::of(k)?, &*View::of(v)?].concat()) };
        let kv = both(&block.k.weight, &block.v.weight)?;
        let width = block.k.weight.dim(0)?;
        let bias = |bias: &Option<Tensor>| match bias {
            Some(bias) => View::of(bias).map(|b| b.to_vec()),
            None => Ok(vec![0.; width]),
        };
        let kv_bias = [bias(&block.k.bias)?, bias(&block.v.bias)?].concat();
        Ok(Self {
            norm1: Norm::of(&block.norm1)?,
            q: Affine::forward_of(&block.q, rows)?,
            kv,
            kv_bias,
            proj: Affine::forward_of(&block.proj, rows)?,
            norm2: Norm::of(&block.norm2)?,
            fc1: Affine::forward_of(&block.mlp.fc1, rows)?,
            fc2: Affine::forward_of(&block.mlp.fc2, rows)?,
            heads: block.heads,
        })
    }

    /// Keys and values of normalised rows: `u [R, D]` -> `[R, 2 D]`.
    pub(super) fn keys_and_values(&self, u: &[f32]) -> Buffer {
        let n = self.norm1.width();
        let rows = u.len() / n;
        let mut kv = Buffer::stale(rows * 2 * n);
        matmul_rows((rows, 2 * n, n), &mut kv, Mat::dense(u, n), Mat::transposed(&self.kv, n), |_, rows| {
            add_bias(rows, &self.kv_bias);
        });
        kv
    }
}

/// What the backward pass of a block needs.
pub(super) struct SavedClassBlock {
    /// Normalised tokens, then queries, and the reciprocals of their standard deviations.
    hat: Buffer,
    inv: Buffer,
    q: Buffer,
    kv: Buffer,
    /// Probabilities, `1 + n` for each sequence and head.
    probs: Vec<f32>,
    /// Output of the attention, before the projection.
    out: Buffer,
    hat2: Buffer,
    inv2: Buffer,
    hidden: Buffer,
    active: Buffer,
}

/// Keys or values of one head: the query's own row first, then its sequence's.
fn columns(
    kv: &[f32],
    n: usize,
    own: usize,
    tokens: std::ops::Range<usize>,
    at: usize,
    d: usize,
) -> impl Iterator<Item = &[f32]> {
    std::iter::once(own).chain(tokens).map(move |row| &kv[row * 2 * n + at..][..d])
}

/// One block: updates the queries `c [S, D]`.
pub(super) fn forward(w: &ClassBlockWeights, x: &[f32], sequences: &Sequences, c: &mut [f32]) -> SavedClassBlock {
    let n = w.norm1.width();
    let (tokens, count) = (x.len() / n, c.len() / n);
    let rows = tokens + count;
    let (mut hat, mut inv, mut u) = (Buffer::stale(rows * n), Buffer::stale(rows), Buffer::stale(rows * n));
    let split = (tokens * n, ROWS_PER_TASK * n);
    hat[..split.0]
        .par_chunks_mut(split.1)
        .zip(inv[..tokens].par_chunks_mut(ROWS_PER_TASK))
        .zip(u[..split.0].par_chunks_mut(split.1))
        .zip(x.par_chunks(split.1))
        .for_each(|(((hat, inv), u), x)| w.norm1.rows(x, Some((hat, inv)), u));
    w.norm1.rows(c, Some((&mut hat[split.0..], &mut inv[tokens..])), &mut u[split.0..]);
    let kv = w.keys_and_values(&u);
    let mut q = Buffer::stale(count * n);
    w.q.forward(&u[split.0..], &mut q);

    let d = n / w.heads;
    let sizes: Vec<usize> = sequences.lengths().iter().map(|len| w.heads * (1 + len)).collect();
    let mut probs = vec![0f32; sizes.iter().sum()];
    let mut out = Buffer::stale(count * n);
    let spans: Vec<_> = sequences.rows().collect();
    crate::sequences::cut_mut(&mut probs, sizes.iter().copied())
        .into_par_iter()
        .zip(out.par_chunks_exact_mut(n))
        .enumerate()
        .for_each(|(i, (probs, out))| {
            wide!({
                let span = &spans[i];
                for (h, p) in probs.chunks_exact_mut(1 + span.len()).enumerate() {
                    let at = h * d;
                    attend(&q[i * n + at..][..d], columns(&kv, n, tokens + i, span.clone(), at, d), p);
                    read(p, columns(&kv, n, tokens + i, span.clone(), n + at, d), &mut out[at..][..d]);
                }
            });
        });

    let mut y = Buffer::stale(count * n);
    w.proj.forward(&out, &mut y);
    c.iter_mut().zip(&*y).for_each(|(c, y)| *c += y);
    let (mut hat2, mut inv2) = (Buffer::stale(count * n), Buffer::stale(count));
    w.norm2.rows(c, Some((&mut hat2, &mut inv2)), &mut y);
    let wide = w.fc1.outputs();
    let (mut hidden, mut active) = (Buffer::stale(count * wide), Buffer::stale(count * wide));
    w.fc1.forward_unbiased(&y, &mut hidden);
    gelu::forward_biased(&mut hidden, &w.fc1.bias(), &mut active);
    w.fc2.forward(&active, &mut y);
    c.iter_mut().zip(&*y).for_each(|(c, y)| *c += y);
    SavedClassBlock { hat, inv, q, kv, probs, out, hat2, inv2, hidden, active }
}

/// Turns the gradient `dc` of the updated queries into that of the queries before, adds to the
/// gradient `dx` of the tokens, and deposits those of the parameters.
pub(super) fn backward(
    block: &ClassBlock,
    w: &ClassBlockWeights,
    saved: SavedClassBlock,
    sequences: &Sequences,
    dc: &mut [f32],
    dx: &mut [f32],
) -> Result<()> {
    let n = w.norm1.width();
    let (tokens, count) = (dx.len() / n, dc.len() / n);
    let rows = tokens + count;
    // Feed-forward half.
    let mut y = Buffer::stale(count * n);
    let mut dhidden = Buffer::stale(saved.hidden.len());
    w.fc2.deposit(&block.mlp.fc2, dc, &saved.active)?;
    w.fc2.backward(dc, &mut dhidden);
    gelu::backward(&saved.hidden, &saved.active, &mut dhidden);
    w.norm2.rows_again(&saved.hat2, &mut y);
    w.fc1.deposit(&block.mlp.fc1, &dhidden, &y)?;
    w.fc1.backward(&dhidden, &mut y);
    w.norm2.deposit(&block.norm2, vec![w.norm2.rows_backward(&saved.hat2, &saved.inv2, &y, dc)])?;
    // Attention.
    w.proj.deposit(&block.proj, dc, &saved.out)?;
    let dout = {
        w.proj.backward(dc, &mut y);
        y
    };
    let (mut dq, mut dkv) = (Buffer::stale(count * n), Buffer::stale(rows * 2 * n));
    attention_backward(w, &saved, sequences, &dout, &mut dq, &mut dkv);
    // Projections and norm: tokens and queries together.
    let mut u = Buffer::stale(rows * n);
    let task = ROWS_PER_TASK * n;
    u.par_chunks_mut(task).zip(saved.hat.par_chunks(task)).for_each(|(u, hat)| w.norm1.rows_again(hat, u));
    w.q.deposit(&block.q, &dq, &u[tokens * n..])?;
    if [&block.k, &block.v].into_iter().flat_map(Linear::parameters).any(Tensor::track_op) {
        let mut dw = Buffer::stale(2 * n * n);
        gemm_parallel((2 * n, n, rows), &mut dw, Mat::transposed(&dkv, 2 * n), Mat::dense(&u, n));
        let db = kernel::column_sums(&dkv, 2 * n);
        for (i, layer) in [&block.k, &block.v].into_iter().enumerate() {
            deposit(&layer.weight, || dw[i * n * n..][..n * n].into())?;
            if let Some(bias) = &layer.bias {
                deposit(bias, || db[i * n..][..n].into())?;
            }
        }
    }
    let mut du = u;
    matmul_rows((rows, n, 2 * n), &mut du, Mat::dense(&dkv, 2 * n), Mat::dense(&w.kv, n), |_, _| ());
    let mut own = dout;
    w.q.backward(&dq, &mut own);
    du[tokens * n..].iter_mut().zip(&*own).for_each(|(du, own)| *du += own);
    let mut sums: Vec<_> = dx
        .par_chunks_mut(task)
        .zip(du[..tokens * n].par_chunks(task))
        .zip(saved.hat[..tokens * n].par_chunks(task).zip(saved.inv[..tokens].par_chunks(ROWS_PER_TASK)))
        .map(|((dx, du), (hat, inv))| w.norm1.rows_backward(hat, inv, du, dx))
        .collect();
    sums.push(w.norm1.rows_backward(&saved.hat[tokens * n..], &saved.inv[tokens..], &du[tokens * n..], dc));
    w.norm1.deposit(&block.norm1, sums)
}

/// Backward pass of the attention: fills `dq [S, D]` and `dkv [T + S, 2 D]`.
fn attention_backward(
    w: &ClassBlockWeights,
    saved: &SavedClassBlock,
    sequences: &Sequences,
    dout: &[f32],
    dq: &mut [f32],
    dkv: &mut [f32],
) {
    let n = w.norm1.width();
    let d = n / w.heads;
    let scale = (d as f32).powf(-0.5);
    let tokens = sequences.tokens();
    let (of_tokens, of_queries) = dkv.split_at_mut(tokens * 2 * n);
    let spans: Vec<_> = sequences.rows().collect();
    let starts: Vec<usize> = spans.iter().enumerate().map(|(i, span)| w.heads * (span.start + i)).collect();
    sequences
        .cut_mut(of_tokens, 2 * n)
        .into_par_iter()
        .zip(of_queries.par_chunks_exact_mut(2 * n))
        .zip(dq.par_chunks_exact_mut(n))
        .enumerate()
        .for_each(|(i, ((dkv, own_dkv), dq))| {
            wide!({
                let span = &spans[i];
                let mut ds = vec![0f32; 1 + span.len()];
                for h in 0..w.heads {
                    let at = h * d;
                    let p = &saved.probs[starts[i] + h * ds.len()..][..ds.len()];
                    let (q, dout) = (&saved.q[i * n + at..][..d], &dout[i * n + at..][..d]);
                    let values = columns(&saved.kv, n, tokens + i, span.clone(), n + at, d);
                    ds.iter_mut().zip(values).for_each(|(ds, v)| *ds = kernel::dot(dout, v));
                    let mean = kernel::dot(&ds, p);
                    ds.iter_mut().zip(p).for_each(|(ds, p)| *ds = scale * p * (*ds - mean));
                    read(&ds, columns(&saved.kv, n, tokens + i, span.clone(), at, d), &mut dq[at..][..d]);
                    let rows = std::iter::once(&mut *own_dkv).chain(dkv.chunks_exact_mut(2 * n));
                    for ((row, ds), p) in rows.zip(&ds).zip(p) {
                        row[at..][..d].iter_mut().zip(q).for_each(|(dk, q)| *dk = ds * q);
                        row[n + at..][..d].iter_mut().zip(dout).for_each(|(dv, dout)| *dv = p * dout);
                    }
                }
            });
        });
}
