//! The backward pass of a network made of coarse ops.
//!
//! candle hands a custom op at most three tensors and adds up their gradients itself, in passes of
//! their own. A coarse op has dozens of parameters: it holds them, and its backward pass deposits
//! their gradients here.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;
use std::cell::RefCell;

/// A parameter and its gradient so far.
type Deposit = (Tensor, Vec<f32>);

thread_local! {
    /// What the ops of the running backward pass have deposited; `None` while there is none.
    static DEPOSITS: RefCell<Option<Vec<Deposit>>> = const { RefCell::new(None) };
}

/// Gradients of `loss`, a scalar, for all parameters, those inside fused ops included. Use it in place
/// of [`Tensor::backward`], which the fused ops refuse.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    let outer = DEPOSITS.replace(Some(Vec::new()));
    let grads = loss.backward();
    let deposits = DEPOSITS.replace(outer).unwrap_or_default();
    let mut grads = grads?;
    for (parameter, gradient) in deposits {
        let gradient = Tensor::from_vec(gradient, parameter.shape(), parameter.device())?;
        let gradient = match grads.remove(&parameter) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        grads.insert(&parameter, gradient);
    }
    Ok(grads)
}

/// Adds `gradient()` to what `parameter` gets from the running backward pass; nothing is computed for
/// a frozen parameter.
pub(crate) fn deposit(parameter: &Tensor, gradient: impl FnOnce() -> Vec<f32>) -> Result<()> {
    if !parameter.track_op() {
        return Ok(());
    }
    if DEPOSITS.with_borrow(Option::is_none) {
        bail!("the backward pass of a fused op must be started by selfpatch_nn::backward, not by Tensor::backward")
    }
    let gradient = gradient();
    if gradient.len() != parameter.elem_count() {
        bail!("a gradient of {} elements for a parameter {:?}", gradient.len(), parameter.dims())
    }
    DEPOSITS.with_borrow_mut(|deposits| {
        let Some(deposits) = deposits else { return };
        match deposits.iter_mut().find(|(known, _)| known.id() == parameter.id()) {
            Some((_, sum)) => {
                sum.par_chunks_mut(1 << 15)
                    .zip(gradient.par_chunks(1 << 15))
                    .for_each(|(sum, more)| sum.iter_mut().zip(more).for_each(|(s, m)| *s += m));
            }
            None => deposits.push((parameter.clone(), gradient)),
        }
    });
    Ok(())
}
