//! Which parameters are decayed, and per-tensor clipping.

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, Var};

/// Whether weight decay applies: not to biases nor to tensors of one dimension
/// (`get_params_groups`; position table, class token and a trained gain are decayed, QUIRKS 14).
pub fn is_decayed(name: &str, rank: usize) -> bool {
    !(name.ends_with(".bias") || rank == 1)
}

/// Euclidean norm of a gradient, accumulated in f64.
pub fn norm(gradient: &Tensor) -> Result<f64> {
    // Sums of 4096 squares in the tensor's own precision, their sum in f64.
    let flat = gradient.flatten_all()?;
    let mut total = 0f64;
    for start in (0..flat.elem_count()).step_by(1 << 20) {
        let part = flat.narrow(0, start, (flat.elem_count() - start).min(1 << 20))?;
        total += part.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    }
    Ok(total.sqrt())
}

/// Scales each gradient down to `max_norm` on its own: by `c / (norm + 1e-6)` where that is below 1
/// (`clip_gradients`, QUIRKS 12); 0 disables. Returns the norms before clipping, in the order of
/// `params`, without those that have no gradient.
pub fn clip_per_tensor(params: &[(String, Var)], grads: &mut GradStore, max_norm: f64) -> Result<Vec<f64>> {
    let mut norms = Vec::with_capacity(params.len());
    for (_, var) in params {
        let Some(gradient) = grads.get(var) else { continue };
        let size = norm(gradient)?;
        let factor = max_norm / (size + 1e-6);
        if max_norm > 0. && factor < 1. {
            let scaled = (gradient * factor)?;
            grads.insert(var, scaled);
        }
        norms.push(size);
    }
    Ok(norms)
}
