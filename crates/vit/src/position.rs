//! The learned position table and its resizing to other grids.

use candle_core::{DType, Result, Tensor};
use num_traits::Float;

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
        let scale = (n as f64 + 0.1) / (total as f64).sqrt();
        // In the precision of the table, as torch computes its coefficients.
        match table.dtype() {
            DType::F64 => Tensor::from_vec(bicubic_matrix(side, n, 1. / scale), (n, side), table.device()),
            dtype => Tensor::from_vec(bicubic_matrix(side, n, (1. / scale) as f32), (n, side), table.device())?
                .to_dtype(dtype),
        }
    };
    let by_rows = matrix(rows)?.matmul(&table.reshape((side, side * dim))?)?.reshape((rows, side, dim))?;
    matrix(cols)?.broadcast_matmul(&by_rows)?.reshape((1, rows * cols, dim))
}

/// `[n_out, n_in]` weights of a bicubic resize along one axis (a = -0.75, border clamped): output `o`
/// is centred at `(o + 0.5) step - 0.5`, as in torch's `interpolate`.
fn bicubic_matrix<T: Float>(n_in: usize, n_out: usize, step: T) -> Vec<T> {
    let c = |v: f64| T::from(v).unwrap_or_else(T::nan); // every literal below is a number in f32 too
    let a = c(-0.75);
    let near = |t: T| ((a + c(2.)) * t - (a + c(3.))) * t * t + c(1.);
    let far = |t: T| ((a * t - c(5.) * a) * t + c(8.) * a) * t - c(4.) * a;
    let mut m = vec![T::zero(); n_out * n_in];
    for (o, row) in m.chunks_exact_mut(n_in).enumerate() {
        let centre = step * (c(o as f64) + c(0.5)) - c(0.5);
        let base = centre.floor();
        let t = centre - base;
        let taps = [(-1, far(t + c(1.))), (0, near(t)), (1, near(c(1.) - t)), (2, far(c(2.) - t))];
        for (offset, weight) in taps {
            let at = (base.to_isize().unwrap_or(0) + offset).clamp(0, n_in as isize - 1) as usize;
            row[at] = row[at] + weight;
        }
    }
    m
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn same_grid_is_untouched_only_for_square_images() -> Result<()> {
        let table = selfpatch_nn::random::normal(1, (1, 16, 3))?;
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
