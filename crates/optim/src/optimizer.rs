//! The optimisers the reference offers.

use crate::ema::Follower;
use crate::norms::Norms;
use crate::rules::Rules;
use crate::state::States;
use crate::step::Step;
use crate::update;
use candle_core::{Result, Tensor, Var};
use selfpatch_nn::{Gradients, Params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which optimiser steps the parameters, with the reference's constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// AdamW, betas 0.9 and 0.999, eps 1e-8.
    #[default]
    AdamW,
    /// SGD with momentum 0.9; weight decay is added to the gradient.
    Sgd,
    /// LARS as in DINO's `utils.LARS`: momentum 0.9, trust coefficient 0.001, for tensors of more
    /// than one dimension.
    Lars,
}

const MOMENTUM: f64 = 0.9;
const LARS_ETA: f64 = 0.001;

/// Factor, learning rate and decay of one parameter.
struct Own {
    /// Factor of the gradient.
    factor: f64,
    lr: f64,
    decay: f64,
}

/// State of an optimiser: per parameter its moments and its own step count.
///
/// A parameter without gradient is left alone altogether: no decay, no moments, no count, so that a
/// layer frozen at first starts its bias correction when it is released (QUIRKS 13).
#[derive(Default)]
pub struct Optimizer {
    algorithm: Algorithm,
    states: States,
}

impl Optimizer {
    /// An optimiser without any state yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, states: States::default() }
    }

    /// One step over all parameters that have a gradient, by `rules`. `follower` then moves on as [`ema`](crate::ema)
    /// would move it.
    ///
    /// If a norm is non-finite, neither parameters nor moments, counts or follower change; the caller finds it among
    /// the norms.
    ///
    /// AdamW and the average are one pass over memory: for each parameter on the CPU in f32, over all of them
    /// on a CUDA device, which alone decides whether to do the step, so that the host need not wait for it.
    /// The other algorithms, and rules that the kernel does not have, copy the norms from the device first.
    ///
    /// # Errors
    /// If the follower does not fit ([`ema`](crate::ema)), or a gradient has another shape than its parameter.
    pub fn step(
        &mut self,
        params: &Params,
        follower: Option<&Follower>,
        grads: &Gradients,
        rules: &Rules,
        step: &Step,
    ) -> Result<Norms> {
        follower.map_or(Ok(()), |follower| follower.check(params))?;
        #[cfg(feature = "cuda")]
        if self.algorithm == Algorithm::AdamW && crate::cuda::applies(params, follower, rules) {
            return crate::cuda::adamw(&mut self.states, params, follower, grads, rules, step);
        }
        let norms = Norms::measure(params, grads, step.scale)?;
        let values = norms.fetch()?;
        if values.iter().any(|norm| !norm.is_finite()) {
            return Ok(norms);
        }
        let mut factors = rules.clip.factors(&values).into_iter().map(|factor| factor / step.scale).peekable();
        for (name, param) in params.iter() {
            let following = follower.and_then(|follower| Some((follower.of(&name)?, follower.momentum)));
            let followed = match factors.next_if(|_| grads.contains(&param)) {
                Some(factor) => {
                    let decay = if rules.decay.applies(&name, param.rank()) { step.weight_decay } else { 0. };
                    let own = Own { factor, lr: step.lr * rules.rate_of(&name), decay };
                    self.update(&name, &param, following.as_ref(), grads, own)?
                }
                None => false,
            };
            if let (false, Some((to, momentum))) = (followed, &following) {
                update::average(to, param.as_tensor(), *momentum)?;
            }
        }
        Ok(norms)
    }

    /// Steps one parameter; true if its follower has moved too.
    fn update(
        &mut self,
        name: &str,
        param: &Var,
        follower: Option<&(Var, f64)>,
        grads: &Gradients,
        Own { factor, lr, decay }: Own,
    ) -> Result<bool> {
        let rows = if self.algorithm == Algorithm::AdamW { 2 } else { 1 };
        let state = self.states.of(name, param, rows)?;
        state.advance()?;
        if self.algorithm == Algorithm::AdamW && update::in_place(param) {
            let one_pass = |g: &[f32]| {
                let average = follower.map(|(follower, momentum)| (follower, *momentum));
                let coefficients = adamw_coefficients(state.steps()?, lr, decay);
                update::adamw_and_average(param, &state.moments, average, g, factor, coefficients)
            };
            if let Some(done) = grads.with(param, one_pass) {
                return done.map(|()| true);
            }
        }
        let Some(gradient) = grads.get(param) else { return Ok(false) };
        let gradient = if factor != 1. { (gradient * factor)? } else { gradient };
        match self.algorithm {
            Algorithm::AdamW => adamw(&state.moments, param, &gradient, adamw_coefficients(state.steps()?, lr, decay))?,
            Algorithm::Sgd => sgd(&state.moments, param, (gradient + (param.as_tensor() * decay)?)?, lr)?,
            Algorithm::Lars => lars(&state.moments, param, &gradient, lr, decay)?,
        }
        Ok(false)
    }

    /// Moments by parameter name, for saving.
    pub fn moments(&self) -> Vec<(String, Tensor)> {
        self.states.moments()
    }

    /// Step counts by parameter name, for saving.
    pub fn steps(&self) -> Result<BTreeMap<String, u64>> {
        self.states.steps()
    }

    /// Restores what [`Optimizer::moments`] and [`Optimizer::steps`] gave, from any device.
    pub fn restore(&mut self, moments: &BTreeMap<String, Tensor>, steps: &BTreeMap<String, u64>) -> Result<()> {
        self.states = States::restored(moments, steps)?;
        Ok(())
    }
}

fn adamw_coefficients(steps: u32, lr: f64, decay: f64) -> update::AdamW {
    let (beta1, beta2) = (0.9f64, 0.999f64);
    let t = f64::from(steps);
    update::AdamW { lr, decay, beta1, beta2, eps: 1e-8, bias1: 1. - beta1.powf(t), bias2: 1. - beta2.powf(t) }
}

fn adamw(moments: &Var, param: &Var, gradient: &Tensor, c: update::AdamW) -> Result<()> {
    update::moments(moments, gradient, c)?;
    update::adamw(param, moments, c)
}

/// `mu = momentum mu + g`, `p -= lr mu`.
fn sgd(moments: &Var, param: &Var, gradient: Tensor, lr: f64) -> Result<()> {
    let moved = ((moments.as_tensor() * MOMENTUM)? + gradient.reshape(moments.shape())?)?;
    moments.set(&moved)?;
    param.set(&(param.as_tensor() - (moved.reshape(param.shape())? * lr)?)?)
}

/// [`sgd`] with the gradient scaled by `eta |p| / |g|`, which never leaves the device.
fn lars(moments: &Var, param: &Var, gradient: &Tensor, lr: f64, decay: f64) -> Result<()> {
    if param.rank() == 1 {
        return sgd(moments, param, gradient.clone(), lr);
    }
    let gradient = (gradient + (param.as_tensor() * decay)?)?;
    let size = |t: &Tensor| t.sqr()?.sum_all()?.sqrt();
    let (p, g) = (size(param)?, size(&gradient)?);
    let both = (p.gt(0.)? * g.gt(0.)?)?;
    let trust = both.where_cond(&((p * LARS_ETA)? / &g)?, &g.ones_like()?)?;
    sgd(moments, param, gradient.broadcast_mul(&trust)?, lr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::init::ONE;
    use selfpatch_nn::backward;

    /// Two steps of each on one weight, worked out by hand from the update rules.
    #[test]
    fn two_steps_by_hand() -> Result<()> {
        let (lr, wd, g) = (0.1, 0.5, 2.0);
        for (algorithm, want) in [
            (Algorithm::AdamW, {
                let one = 1.0 * (1. - lr * wd) - lr;
                one * (1. - lr * wd) - lr // a constant gradient: m / sqrt(v) stays 1
            }),
            (Algorithm::Sgd, {
                let (g1, p1) = (g + wd, 1. - lr * (g + wd));
                p1 - lr * (0.9 * g1 + g + wd * p1)
            }),
            (Algorithm::Lars, {
                let mu = 0.001; // trust * |g'| = eta * |p|
                let p1 = 1. - lr * mu;
                p1 - lr * (0.9 * mu + 0.001 * p1)
            }),
        ] {
            let params = Params::trainable(0);
            params.builder(DType::F64, &Device::Cpu).get_with_hints((1, 1), "w.weight", ONE)?;
            let p = params.get("w.weight").expect("the parameter");
            let mut optimizer = Optimizer::new(algorithm);
            for _ in 0..2 {
                let grads = backward(&(p.as_tensor() * g)?.sum_all()?)?;
                optimizer.step(
                    &params,
                    None,
                    &grads,
                    &Rules::default(),
                    &Step { lr, weight_decay: wd, ..Step::default() },
                )?;
            }
            let got = p.flatten_all()?.to_vec1::<f64>()?[0];
            assert!((got - want).abs() < 1e-7, "{algorithm:?}: {got}, by hand {want}");
        }
        Ok(())
    }
}
