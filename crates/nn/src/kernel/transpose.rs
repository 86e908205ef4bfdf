//! Weights turned around.
//!
//! The product `x W^T` of many rows reads `W [n, k]` across its rows; from `W^T [k, n]` it is up to a
//! tenth faster, which pays for turning `W` once.

use super::Buffer;
use rayon::prelude::*;

/// Side of the tiles that are turned in registers.
const TILE: usize = 16;

/// Rows of the result that one task makes: whole cache lines of `w` side by side.
const ROWS: usize = 4 * TILE;

/// `w [n, k]` -> `[k, n]`, dense and row-major.
pub(crate) fn transposed(w: &[f32], k: usize) -> Buffer {
    let n = w.len() / k.max(1);
    let mut out = Buffer::stale(w.len());
    if w.is_empty() {
        return out;
    }
    out.par_chunks_mut(ROWS * n).enumerate().for_each(|(i, out)| {
        for at in (0..n).step_by(TILE) {
            for (j, out) in out.chunks_mut(TILE * n).enumerate() {
                tile(w, k, out, n, i * ROWS + j * TILE, at);
            }
        }
    });
    out
}

/// Turns the columns of `w` from `first` on, as many as `out` has rows, within its rows from `at` on.
fn tile(w: &[f32], k: usize, out: &mut [f32], n: usize, first: usize, at: usize) {
    let (rows, width) = (out.len() / n, TILE.min(n - at));
    if rows == TILE && width == TILE {
        let mut tile = [[0f32; TILE]; TILE];
        for (j, row) in tile.iter_mut().enumerate() {
            row.copy_from_slice(&w[(at + j) * k + first..][..TILE]);
        }
        for r in 0..TILE {
            let line: [f32; TILE] = std::array::from_fn(|j| tile[j][r]);
            out[r * n + at..][..TILE].copy_from_slice(&line);
        }
        return;
    }
    for r in 0..rows {
        for j in 0..width {
            out[r * n + at + j] = w[(at + j) * k + first + r];
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_small_shape_is_turned() {
        for n in [1, 2, 15, 16, 17, 48, 50] {
            for k in [1, 3, 16, 31, 32, 65, 130] {
                let w: Vec<f32> = (0..n * k).map(|i| i as f32).collect();
                let t = super::transposed(&w, k);
                assert!((0..n * k).all(|i| t[i % k * n + i / k] == w[i]), "{n} {k}");
            }
        }
    }
}
