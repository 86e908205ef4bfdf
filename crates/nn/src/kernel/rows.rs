//! Reductions over rows and columns.

use rayon::prelude::*;
use selfpatch_simd::wide;

/// Rows handled by one parallel task. A constant, so that sums over rows are grouped, and therefore
/// rounded, in the same way whatever the number of threads.
pub(crate) const ROWS_PER_TASK: usize = 64;

/// Sum over the rows of `x` (`[rows, n]`), in a fixed order.
pub(crate) fn column_sums(x: &[f32], n: usize) -> Vec<f32> {
    let partial: Vec<Vec<f32>> = x
        .par_chunks(ROWS_PER_TASK * n)
        .map(|rows| {
            let mut sum = vec![0f32; n];
            wide!(for row in rows.chunks_exact(n) {
                sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
            });
            sum
        })
        .collect();
    add_up(partial, n)
}

/// The sum of equally long vectors, first to last.
pub(crate) fn add_up(parts: Vec<Vec<f32>>, n: usize) -> Vec<f32> {
    let mut total = vec![0f32; n];
    for part in parts {
        wide!(total.iter_mut().zip(part).for_each(|(t, p)| *t += p));
    }
    total
}

/// Dot product with 16 running sums, which the compiler turns into vector code.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (xs, ys) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in xs.zip(ys) {
        for i in 0..16 {
            lanes[i] += x[i] * y[i];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Sum with 16 running sums.
#[inline(always)]
pub(crate) fn sum(a: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let xs = a.chunks_exact(16);
    let rest: f32 = xs.remainder().iter().sum();
    for x in xs {
        for i in 0..16 {
            lanes[i] += x[i];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Largest element (negative infinity for an empty slice).
#[inline(always)]
pub(crate) fn max(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let xs = a.chunks_exact(16);
    let rest = xs.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for x in xs {
        for i in 0..16 {
            lanes[i] = if x[i] > lanes[i] { x[i] } else { lanes[i] };
        }
    }
    lanes.iter().copied().fold(rest, f32::max)
}
