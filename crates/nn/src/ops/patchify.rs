//! Images cut into patches.

use crate::kernel::{View, fusible};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// `x [B, C, H, W]` -> `[B * N, p * p * C]`: patches row by row of the grid, each row by row, its
/// channels innermost. `p` must divide both sides.
pub fn patchify(x: &Tensor, p: usize) -> Result<Tensor> {
    let (b, c, height, width) = x.dims4()?;
    if p == 0 || height % p != 0 || width % p != 0 {
        bail!("patches of {p} pixels do not divide images of {height} x {width}")
    }
    if !fusible(x) || x.track_op() || x.elem_count() == 0 {
        return reference(x, p);
    }
    let x = x.contiguous()?;
    let view = View::of(&x)?;
    let view: &[f32] = &view;
    let (rows, cols, plane) = (height / p, width / p, height * width);
    let mut out = vec![0f32; view.len()];
    // One row of patches at a time.
    out.par_chunks_exact_mut(cols * p * p * c).enumerate().for_each(|(i, out)| {
        let (image, row) = (i / rows, i % rows);
        for (col, patch) in out.chunks_exact_mut(p * p * c).enumerate() {
            for (y, line) in patch.chunks_exact_mut(p * c).enumerate() {
                for channel in 0..c {
                    let from = (image * c + channel) * plane + (row * p + y) * width + col * p;
                    let pixels = &view[from..from + p];
                    line[channel..].iter_mut().step_by(c).zip(pixels).for_each(|(o, v)| *o = *v);
                }
            }
        }
    });
    Tensor::from_vec(out, (b * rows * cols, p * p * c), x.device())
}

/// Patches cut by candle's own ops.
pub fn reference(x: &Tensor, p: usize) -> Result<Tensor> {
    let (b, c, height, width) = x.dims4()?;
    let (rows, cols) = (height / p, width / p);
    x.reshape((b, c, rows, p, cols * p))?
        .reshape(&[b, c, rows, p, cols, p][..])?
        .permute([0, 2, 4, 3, 5, 1])?
        .reshape((b * rows * cols, c * p * p))
}

#[cfg(test)]
mod tests {
    use candle_core::Result;

    #[test]
    fn equals_reference() -> Result<()> {
        for (b, c, rows, cols, p) in [(1, 1, 1, 1, 1), (2, 3, 2, 4, 5), (3, 4, 3, 1, 2)] {
            let x = crate::random::normal(1, (b, c, rows * p, cols * p))?;
            let (got, want) = (super::patchify(&x, p)?, super::reference(&x, p)?);
            assert_eq!(got.to_vec2::<f32>()?, want.to_vec2::<f32>()?);
            assert!(super::patchify(&x, 7).is_err() && super::patchify(&x, 0).is_err());
        }
        Ok(())
    }
}
