//! The learned position table and its resizing to other grids.

use candle_core::{Result, Tensor};

/// Positions for a `rows x cols` grid of patches: `table [1, S*S, D]` -> `[1, rows*cols, D]`.
///
/// The table is used as it is only if it has as many entries as the grid and the image is square;
/// otherwise it is resized bicubically with the scale `(n + 0.1) / S` per axis, as the reference
/// does (`interpolate_pos_encoding`; QUIRKS 2). Gradients flow to the table.
pub fn resize(table: &Tensor, rows: usize, cols: usize, square_image: bool) -> Result<Tensor> {
    let (_, total, dim) = table.dims3()?;
    if rows * cols == total && square_image {
        return Ok(table.clone());
    }
    let side = total.isqrt();
    let matrix = |n: usize| -> Result<Tensor> {
        let m = bicubic_matrix(side, n, (n as f64 + 0.1) / (total as f64).sqrt());
        Tensor::from_vec(m, (n, side), table.device())?.to_dtype(table.dtype())
    };
    let by_rows = matrix(rows)?.matmul(&table.reshape((side, side * dim))?)?.reshape((rows, side, dim))?;
    matrix(cols)?.broadcast_matmul(&by_rows)?.reshape((1, rows * cols, dim))
}

/// `[n_out, n_in]` weights of a bicubic resize along one axis (a = -0.75, border clamped):
/// output `o` is centred at `(o + 0.5) / scale - 0.5`, as in torch's `interpolate`.
fn bicubic_matrix(n_in: usize, n_out: usize, scale: f64) -> Vec<f64> {
    const A: f64 = -0.75;
    let near = |t: f64| ((A + 2.) * t - (A + 3.)) * t * t + 1.;
    let far = |t: f64| ((A * t - 5. * A) * t + 8. * A) * t - 4. * A;
    let mut m = vec![0f64; n_out * n_in];
    for (o, row) in m.chunks_exact_mut(n_in).enumerate() {
        let centre = (o as f64 + 0.5) / scale - 0.5;
        let base = centre.floor();
        let t = centre - base;
        for (offset, weight) in [(-1., far(t + 1.)), (0., near(t)), (1., near(1. - t)), (2., far(2. - t))] {
            let at = (base + offset).clamp(0., (n_in - 1) as f64) as usize;
            row[at] += weight;
        }
    }
    m
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn same_grid_is_untouched_only_for_square_images() -> Result<()> {
        let table = Tensor::randn(0f32, 1f32, (1, 16, 3), &Device::Cpu)?;
        let same = resize(&table, 4, 4, true)?;
        assert_eq!(same.flatten_all()?.to_vec1::<f32>()?, table.flatten_all()?.to_vec1::<f32>()?);
        let other = resize(&table, 2, 8, false)?; // as many tokens, another shape
        assert_eq!(other.dims(), [1, 16, 3]);
        assert_ne!(other.flatten_all()?.to_vec1::<f32>()?, table.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn a_constant_table_stays_constant() -> Result<()> {
        let table = Tensor::ones((1, 9, 2), DType::F64, &Device::Cpu)?;
        for (rows, cols) in [(1, 1), (2, 7), (12, 5)] {
            let out = resize(&table, rows, cols, false)?.flatten_all()?.to_vec1::<f64>()?;
            assert!(out.iter().all(|v| (v - 1.).abs() < 1e-12));
        }
        Ok(())
    }
}
