//! Matrix products. The `gemm` crate computes them and picks AVX-512, AVX2, NEON or plain code at run
//! time; here they are split between threads, so that each thread can finish its rows while they are
//! warm.
//!
//! On one machine an element of the result is summed in an order that depends on `k` alone, whatever
//! block of rows or columns is computed at a time, as long as a block has more than 64 rows or columns
//! ([`MIN_BLOCK`]) and more than 256 elements ([`NARROW`]): smaller ones take another kernel.
//! `splitting_changes_no_bit` tests it.

use rayon::prelude::*;

/// A matrix inside a slice: `data[row * rows + col * cols]`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub cols: usize,
}

impl<'a> Mat<'a> {
    /// A dense row-major matrix of `n` columns.
    pub(crate) fn dense(data: &'a [f32], n: usize) -> Self {
        Self { data, rows: n, cols: 1 }
    }

    /// The transpose of a dense row-major matrix of `n` columns.
    pub(crate) fn transposed(data: &'a [f32], n: usize) -> Self {
        Self { data, rows: 1, cols: n }
    }

    /// The matrix without its first `row` rows.
    fn below(self, row: usize) -> Self {
        Self { data: &self.data[row * self.rows..], ..self }
    }
}

/// Fewest rows or columns in a block of its own.
const MIN_BLOCK: usize = 96;

/// Products with fewer rows or columns than this are not split.
const NARROW: usize = 8;

/// Products with fewer multiplications than this run on one thread.
const MIN_PARALLEL: usize = 1 << 20;

/// Rows per block when `rows` are divided between the threads: a multiple of 16 and at least
/// [`MIN_BLOCK`], the last block being at most that much and hardly less than [`MIN_BLOCK`]; or all rows
/// in one block. Never 0.
pub(crate) fn row_block(rows: usize) -> usize {
    if rows == 0 {
        return MIN_BLOCK;
    }
    let blocks = rayon::current_num_threads().min(rows / MIN_BLOCK).max(1);
    let block = rows.div_ceil(blocks).next_multiple_of(16);
    // The last block must not be a sliver.
    if (1..MIN_BLOCK - 16).contains(&(rows % block)) { rows.max(1) } else { block }
}

/// `c[m, n] = (accumulate ? c : 0) + scale * a[m, k] b[k, n]` on the calling thread; `c` has row
/// stride `c_rows`.
pub(crate) fn gemm(
    (m, n, k): (usize, usize, usize),
    c: &mut [f32],
    c_rows: usize,
    accumulate: bool,
    scale: f32,
    a: Mat,
    b: Mat,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(c.len() >= (m - 1) * c_rows + n && (m == 1 || c_rows >= n));
    if k > 0 {
        assert!(a.data.len() > (m - 1) * a.rows + (k - 1) * a.cols);
        assert!(b.data.len() > (k - 1) * b.rows + (n - 1) * b.cols);
    }
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
            gemm::Parallelism::None,
        )
    }
}

/// `c[m, n] = a[m, k] b[k, n]`, dense, a block of rows per thread. `finish(row, c)` is called with
/// each block and the number of its first row, on the thread that has just computed it.
pub(crate) fn matmul_rows(
    (m, n, k): (usize, usize, usize),
    c: &mut [f32],
    a: Mat,
    b: Mat,
    finish: impl Fn(usize, &mut [f32]) + Sync,
) {
    assert_eq!(c.len(), m * n);
    if m * n == 0 {
        return;
    }
    let block = if m * n * k < MIN_PARALLEL || n < NARROW { m } else { row_block(m) };
    c.par_chunks_mut(block * n).enumerate().for_each(|(i, c)| {
        gemm((c.len() / n, n, k), c, n, false, 1., a.below(i * block), b);
        finish(i * block, c);
    });
}

/// `c[m, n] = a[m, k] b[k, n]`, dense, on all threads whatever the shape.
pub(crate) fn gemm_parallel((m, n, k): (usize, usize, usize), c: &mut [f32], a: Mat, b: Mat) {
    let threads = rayon::current_num_threads();
    if m * n * k < MIN_PARALLEL || threads == 1 || m / MIN_BLOCK >= threads || m < NARROW {
        return matmul_rows((m, n, k), c, a, b, |_, _| ());
    }
    // Few rows: the columns are divided, each thread writing a dense part of its own.
    let block = row_block(n);
    let parts: Vec<Vec<f32>> = (0..n.div_ceil(block))
        .into_par_iter()
        .map(|i| {
            let width = block.min(n - i * block);
            let mut part = vec![0f32; m * width];
            let b = Mat { data: &b.data[i * block * b.cols..], ..b };
            gemm((m, width, k), &mut part, width, false, 1., a, b);
            part
        })
        .collect();
    c.par_chunks_mut(n).enumerate().for_each(|(row, c)| {
        for (part, c) in parts.iter().zip(c.chunks_mut(block)) {
            c.copy_from_slice(&part[row * c.len()..][..c.len()]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| (((i + seed) * 7919 % 1009) as f32 - 504.) / 97.).collect()
    }

    fn threads(n: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()
    }

    #[test]
    fn splitting_changes_no_bit() {
        for (m, n, k) in [
            (97, 33, 700),
            (200, 64, 65),
            (333, 192, 768),
            (1000, 8, 2100),
            (2, 256, 2048),
            (1, 400, 4096),
            (2000, 3, 700),
            (40, 3000, 256),
            (9, 700, 300),
        ] {
            let (a, b) = (values(m * k, 1), values(k * n, 2));
            for (a, b) in [
                (Mat::dense(&a, k), Mat::dense(&b, n)),
                (Mat::dense(&a, k), Mat::transposed(&b, k)),
                (Mat::transposed(&a, m), Mat::dense(&b, n)),
            ] {
                let product = |t: usize| {
                    let mut c = vec![0f32; m * n];
                    threads(t).install(|| gemm_parallel((m, n, k), &mut c, a, b));
                    c
                };
                let one = product(1);
                for t in [2, 3, 5] {
                    assert!(one == product(t), "{m} {n} {k} with {t} threads");
                }
            }
        }
    }

    #[test]
    fn equals_the_sum_of_products() {
        let (m, n, k) = (130, 70, 150);
        let (a, b) = (values(m * k, 3), values(k * n, 4));
        let mut c = vec![0f32; m * n];
        gemm_parallel((m, n, k), &mut c, Mat::dense(&a, k), Mat::dense(&b, n));
        for (i, &got) in c.iter().enumerate() {
            let want: f64 = (0..k).map(|j| f64::from(a[i / n * k + j]) * f64::from(b[j * n + i % n])).sum();
            assert!((f64::from(got) - want).abs() < 1e-2, "{got} {want}"); // of sums of about 1e3
        }
    }

    #[test]
    fn blocks_cover_all_rows_and_none_is_a_sliver() {
        for t in [1, 2, 3, 7] {
            threads(t).install(|| {
                assert!(row_block(0) > 0);
                for rows in 1..3000 {
                    let block = row_block(rows);
                    let last = (rows - 1) % block + 1;
                    assert!(block >= rows || last > 64, "{rows} rows on {t} threads: {block}, {last}");
                    assert!(rows.div_ceil(block) <= t);
                }
            });
        }
    }
}
