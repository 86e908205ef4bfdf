//! The learned position table and its resizing to other grids.

use candle_core::{DType, Result, Tensor};
use num_traits::Float;

/// How a position table is resized, which differs between programs. All rules are bicubic, and all leave the table
/// unchanged on its own grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// DINO, DINOv2 without registers, SelfPatch: the scale is `(n + 0.1) / S`, without antialiasing.
    #[default]
    Dino,
    /// timm (`resample_abs_pos_embed`), and DINOv2 with registers: antialiased if the grid becomes smaller.
    Timm,
    /// Hugging Face transformers: the scale is `n / S`, without antialiasing.
    Transformers,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 3] = [Self::Dino, Self::Timm, Self::Transformers];

    /// Name of the rule on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dino => "dino",
            Self::Timm => "timm",
            Self::Transformers => "transformers",
        }
    }
}

/// Positions for a `rows x cols` grid of patches: `table [1, S*S, D]` -> `[1, rows*cols, D]`.
///
/// The table is used unchanged only if it has as many entries as the grid and the image is square; otherwise it is
/// resized bicubically by `rule`; [`Rule::Dino`] is the reference's (`interpolate_pos_encoding`; QUIRKS 2). Gradients
/// flow to the table.
pub fn resize(table: &Tensor, rows: usize, cols: usize, square_image: bool, rule: Rule) -> Result<Tensor> {
    let (_, total, dim) = table.dims3()?;
    if rows * cols == total && square_image {
        return Ok(table.clone());
    }
    let side = total.isqrt();
    let matrix = |n: usize| -> Result<Tensor> {
        if rule == Rule::Timm {
            let weights = smoothing_matrix(side, n);
            return Tensor::from_vec(weights, (n, side), table.device())?.to_dtype(table.dtype());
        }
        let offset = if rule == Rule::Dino { 0.1 } else { 0. };
        let scale = (n as f64 + offset) / (total as f64).sqrt();
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

/// `[n_out, n_in]` weights of a bicubic resize along one axis (a = -0.5) whose filter is widened to the spacing of
/// the outputs if the grid becomes smaller, as in torch's `interpolate` with `antialias`.
fn smoothing_matrix(n_in: usize, n_out: usize) -> Vec<f32> {
    let step = n_in as f64 / n_out as f64;
    let wide = step.max(1.);
    let cubic = |x: f64| {
        let x = x.abs();
        match x {
            x if x < 1. => (1.5 * x - 2.5) * x * x + 1.,
            x if x < 2. => ((-0.5 * x + 2.5) * x - 4.) * x + 2.,
            _ => 0.,
        }
    };
    let mut m = vec![0f32; n_out * n_in];
    for (o, row) in m.chunks_exact_mut(n_in).enumerate() {
        let centre = step * (o as f64 + 0.5);
        let first = (centre - 2. * wide + 0.5).max(0.) as usize;
        let last = ((centre + 2. * wide + 0.5) as usize).min(n_in);
        let weight = |i: usize| cubic((i as f64 - centre + 0.5) / wide);
        let sum: f64 = (first..last).map(weight).sum();
        for (i, out) in row.iter_mut().enumerate().take(last).skip(first) {
            *out = (weight(i) / sum) as f32;
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
        let same = resize(&table, 4, 4, true, Rule::Dino)?;
        assert_eq!(same.flatten_all()?.to_vec1::<f32>()?, table.flatten_all()?.to_vec1::<f32>()?);
        let other = resize(&table, 2, 8, false, Rule::Dino)?; // as many tokens, another shape
        assert_eq!(other.dims(), [1, 16, 3]);
        assert_ne!(other.flatten_all()?.to_vec1::<f32>()?, table.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn a_constant_table_stays_constant() -> Result<()> {
        let table = Tensor::ones((1, 9, 2), DType::F64, &Device::Cpu)?;
        for rule in Rule::ALL {
            for (rows, cols) in [(1, 1), (2, 7), (12, 5)] {
                let out = resize(&table, rows, cols, false, rule)?.flatten_all()?.to_vec1::<f64>()?;
                assert!(out.iter().all(|v| (v - 1.).abs() < 1e-6), "{rule:?}"); // weights of f32 in one of them
            }
        }
        Ok(())
    }
}
