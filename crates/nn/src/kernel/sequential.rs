//! A matrix product in which each element is one chain of fused multiply-adds over ascending `k`,
//! starting from zero: the order in which torch's first convolution sums. Its rounding error is the
//! reference's, digit for digit, where a blocked GEMM would have another one.

use super::rows::ROWS_PER_TASK;
use rayon::prelude::*;

/// Rows and columns of `y` held in registers.
const ROWS: usize = 4;
const COLS: usize = 16;

/// `y[m, n] = x[m, k] w[n, k]^T + bias[n]`, all row-major and densely packed.
///
/// CPUs without fused multiply-add round each product as well; the result then differs in the last
/// digits.
pub(crate) fn product(x: &[f32], w: &[f32], bias: &[f32], k: usize, y: &mut [f32]) {
    let n = bias.len();
    assert!(k > 0 && n > 0 && w.len() == n * k && x.len() / k * n == y.len());
    // [k, n padded to whole tiles]: the columns of one step lie side by side.
    let padded = n.next_multiple_of(COLS);
    let mut turned = vec![0f32; k * padded];
    for (col, row) in w.chunks_exact(k).enumerate() {
        for (i, &v) in row.iter().enumerate() {
            turned[i * padded + col] = v;
        }
    }
    y.par_chunks_mut(ROWS_PER_TASK * n).zip(x.par_chunks(ROWS_PER_TASK * k)).for_each(|(y, x)| {
        rows(x, &turned, padded, k, y, n);
        y.chunks_exact_mut(n).for_each(|row| row.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
    });
}

fn rows(x: &[f32], w: &[f32], padded: usize, k: usize, y: &mut [f32], n: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the CPU has the features that the function is compiled for.
            return unsafe { rows_avx2(x, w, padded, k, y, n) };
        }
        tiles::<false>(x, w, padded, k, y, n);
    }
    #[cfg(not(target_arch = "x86_64"))]
    tiles::<{ cfg!(target_arch = "aarch64") }>(x, w, padded, k, y, n);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn rows_avx2(x: &[f32], w: &[f32], padded: usize, k: usize, y: &mut [f32], n: usize) {
    tiles::<true>(x, w, padded, k, y, n);
}

#[inline(always)]
fn tiles<const FUSED: bool>(x: &[f32], w: &[f32], padded: usize, k: usize, y: &mut [f32], n: usize) {
    for (y, x) in y.chunks_mut(ROWS * n).zip(x.chunks(ROWS * k)) {
        let last = x.len() / k - 1; // rows in this tile - 1
        for from in (0..n).step_by(COLS) {
            let mut sums = [[0f32; COLS]; ROWS];
            // Rows that do not exist repeat the last one; their sums are not stored.
            let x: [&[f32]; ROWS] = std::array::from_fn(|r| &x[r.min(last) * k..][..k]);
            for (i, w) in w.chunks_exact(padded).enumerate() {
                let w = &w[from..from + COLS];
                for (sums, x) in sums.iter_mut().zip(x) {
                    for (sum, &w) in sums.iter_mut().zip(w) {
                        *sum = if FUSED { x[i].mul_add(w, *sum) } else { *sum + x[i] * w };
                    }
                }
            }
            let width = COLS.min(n - from);
            for (y, sums) in y.chunks_exact_mut(n).zip(&sums) {
                y[from..from + width].copy_from_slice(&sums[..width]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn equals_a_chain_of_fused_steps_in_every_small_shape() {
        for m in 1..=6 {
            for n in [1, 15, 16, 17, 40] {
                for k in [1, 2, 33] {
                    let value = |i: usize| ((i * 7919 % 1009) as f32 - 504.0) / 97.0;
                    let x: Vec<f32> = (0..m * k).map(value).collect();
                    let w: Vec<f32> = (0..n * k).map(|i| value(i + 31)).collect();
                    let bias: Vec<f32> = (0..n).map(|i| value(i + 77)).collect();
                    let mut y = vec![0f32; m * n];
                    super::product(&x, &w, &bias, k, &mut y);
                    for (i, &got) in y.iter().enumerate() {
                        let chain = (0..k).fold(0f32, |s, j| x[i / n * k + j].mul_add(w[i % n * k + j], s));
                        let want = chain + bias[i % n];
                        assert!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "{m} {n} {k}: {got} {want}");
                        #[cfg(target_arch = "x86_64")]
                        if is_x86_feature_detected!("fma") {
                            assert_eq!(got, want);
                        }
                    }
                }
            }
        }
    }
}
