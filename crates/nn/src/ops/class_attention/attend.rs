//! Attention of one query.

use crate::kernel;
use crate::ops::attention::softmax_row;
use rayon::prelude::*;
use selfpatch_simd::wide;

/// Scores of one head: `p_j = softmax(scale * q . k_j)`, first over the query's own key.
#[inline(always)]
pub(in crate::ops) fn attend<'a>(q: &[f32], keys: impl Iterator<Item = &'a [f32]>, p: &mut [f32]) {
    let scale = (q.len() as f32).powf(-0.5);
    p.iter_mut().zip(keys).for_each(|(p, key)| *p = scale * kernel::dot(q, key));
    softmax_row(p);
}

/// `out = sum_j p_j v_j`.
#[inline(always)]
pub(in crate::ops) fn read<'a>(p: &[f32], values: impl Iterator<Item = &'a [f32]>, out: &mut [f32]) {
    out.fill(0.);
    for (p, value) in p.iter().zip(values) {
        out.iter_mut().zip(value).for_each(|(out, v)| *out += p * v);
    }
}

/// Runs `f(i, part)` for the rows of `width` in `out`, in parallel.
pub(in crate::ops) fn each_row(out: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    out.par_chunks_exact_mut(width).enumerate().for_each(|(i, row)| wide!(f(i, row)));
}
