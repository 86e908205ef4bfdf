//! What the CPU kernels share: contiguous slices, a safe GEMM call, row-parallel loops whose
//! results do not depend on the number of threads.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};
use rayon::prelude::*;

/// Rows handled by one parallel task. A constant, so that sums over rows are grouped, and therefore
/// rounded, in the same way whatever the number of threads.
pub(super) const ROWS_PER_TASK: usize = 64;

/// Whether the fused kernels apply to `x`.
pub(super) fn fusible(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == candle_core::DType::F32
}

/// The elements of a contiguous f32 CPU storage.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => bail!("a fused op needs a contiguous tensor"),
    }
}

/// Runs `f` on the elements of a contiguous f32 CPU tensor, without a copy.
pub(super) fn with<R>(t: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        Storage::Cpu(s) => f(slice(s, layout)?),
        _ => bail!("a fused CPU op was called on another device"),
    }
}

/// A matrix inside a slice: `data[offset + row * rows + col * cols]`.
#[derive(Clone, Copy)]
pub(super) struct Mat<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub cols: usize,
}

/// `c[m, n] = (accumulate ? c : 0) + scale * a[m, k] b[k, n]`; `c` has row stride `c_rows`.
#[allow(clippy::too_many_arguments)] // the arguments of a GEMM
pub(super) fn gemm(
    (m, n, k): (usize, usize, usize),
    c: &mut [f32],
    c_rows: usize,
    accumulate: bool,
    scale: f32,
    a: Mat,
    b: Mat,
    parallel: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(c.len() >= (m - 1) * c_rows + n && (m == 1 || c_rows >= n));
    if k > 0 {
        assert!(a.data.len() > (m - 1) * a.rows + (k - 1) * a.cols);
        assert!(b.data.len() > (k - 1) * b.rows + (n - 1) * b.cols);
    }
    let threads = rayon::current_num_threads();
    let parallelism = if parallel && threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    // SAFETY: the assertions above bound every element that is touched; rows of `c` do not overlap.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            c_rows as isize,
            accumulate,
            a.data.as_ptr(),
            a.cols as isize,
            a.rows as isize,
            b.data.as_ptr(),
            b.cols as isize,
            b.rows as isize,
            1f32,
            scale,
            false,
            false,
            false,
            parallelism,
        )
    }
}

/// Runs `f`, compiled for AVX2 where the CPU has it. The results are the same either way: wider
/// registers do not change the order of any sum, and no multiply-add is fused.
#[inline(always)]
pub(super) fn wide<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has the feature that the function is compiled for.
            return unsafe { avx2(f) };
        }
    }
    f()
}

/// Sum over the rows of `x` (`[rows, n]`), in a fixed order.
pub(super) fn column_sums(x: &[f32], n: usize) -> Vec<f32> {
    let partial: Vec<Vec<f32>> = x
        .par_chunks(ROWS_PER_TASK * n)
        .map(|rows| {
            let mut sum = vec![0f32; n];
            for row in rows.chunks_exact(n) {
                sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
            }
            sum
        })
        .collect();
    add_up(partial, n)
}

/// The sum of equally long vectors, first to last.
pub(super) fn add_up(parts: Vec<Vec<f32>>, n: usize) -> Vec<f32> {
    let mut total = vec![0f32; n];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
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
pub(super) fn sum(a: &[f32]) -> f32 {
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
pub(super) fn max(a: &[f32]) -> f32 {
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
