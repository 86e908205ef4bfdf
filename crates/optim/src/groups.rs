//! Which parameters are decayed, and by how much each gradient is clipped.

use candle_core::{DType, Result, Tensor};
use rayon::prelude::*;
use selfpatch_nn::Gradients;
use selfpatch_nn::ops::dot;
use selfpatch_simd::wide;

/// Whether weight decay applies: not to biases nor to tensors of one dimension
/// (`get_params_groups`; position table, class token and a trained gain are decayed, QUIRKS 14).
pub fn is_decayed(name: &str, rank: usize) -> bool {
    !(name.ends_with(".bias") || rank == 1)
}

/// Euclidean norm of a gradient: sums of at most 4096 squares in its own precision, their sum in f64.
pub fn norm(grads: &Gradients, param: &Tensor) -> Result<Option<f64>> {
    const BLOCK: usize = 4096;
    let squares = |values: &[f32]| -> Result<f64> {
        let sums: Vec<f64> = values.par_chunks(BLOCK).map(|block| f64::from(wide!(dot(block, block)))).collect();
        Ok(sums.iter().sum())
    };
    if let Some(total) = grads.with(param, squares) {
        return Ok(Some(total?.sqrt()));
    }
    let Some(gradient) = grads.get(param) else { return Ok(None) };
    let flat = gradient.flatten_all()?;
    let mut total = 0f64;
    for start in (0..flat.elem_count()).step_by(BLOCK) {
        let part = flat.narrow(0, start, (flat.elem_count() - start).min(BLOCK))?;
        total += part.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    }
    Ok(Some(total.sqrt()))
}

/// What a gradient of this norm is multiplied with so that its norm stays within `max_norm`:
/// `c / (norm + 1e-6)` where that is below 1 (`clip_gradients`, each tensor on its own, QUIRKS 12);
/// `max_norm` 0 disables.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    let factor = max_norm / (norm + 1e-6);
    if max_norm > 0. && factor < 1. { factor } else { 1. }
}
