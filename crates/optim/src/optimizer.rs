//! The optimisers the reference offers.

use crate::groups::is_decayed;
use crate::update;
use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, Var, bail};
use std::collections::BTreeMap;

/// Which optimiser, with the reference's constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
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

/// State of an optimiser: per parameter its moments and its own step count.
///
/// A parameter without gradient is left alone altogether: no decay, no moments, no count, so that a
/// layer frozen at first starts its bias correction when it is released (QUIRKS 13).
#[derive(Default)]
pub struct Optimizer {
    algorithm: Algorithm,
    states: BTreeMap<String, State>,
}

struct State {
    steps: u64,
    /// `[2, n]` for AdamW, `[1, n]` otherwise.
    moments: Var,
}

impl Optimizer {
    /// Without any state yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, states: BTreeMap::new() }
    }

    /// One step over all parameters that have a gradient; weight decay only where [`is_decayed`].
    pub fn step(&mut self, params: &[(String, Var)], grads: &GradStore, lr: f64, weight_decay: f64) -> Result<()> {
        for (name, param) in params {
            let Some(gradient) = grads.get(param) else { continue };
            let decay = if is_decayed(name, param.rank()) { weight_decay } else { 0. };
            if !self.states.contains_key(name) {
                let rows = if self.algorithm == Algorithm::AdamW { 2 } else { 1 };
                let moments = Var::zeros((rows, param.elem_count()), param.dtype(), param.device())?;
                self.states.insert(name.clone(), State { steps: 0, moments });
            }
            let Some(state) = self.states.get_mut(name) else { continue };
            state.steps += 1;
            match self.algorithm {
                Algorithm::AdamW => adamw(state, param, gradient, lr, decay)?,
                Algorithm::Sgd => sgd(state, param, (gradient + (param.as_tensor() * decay)?)?, lr)?,
                Algorithm::Lars => lars(state, param, gradient, lr, decay)?,
            }
        }
        Ok(())
    }

    /// Moments by parameter name, for saving.
    pub fn moments(&self) -> Vec<(String, Tensor)> {
        self.states.iter().map(|(name, s)| (name.clone(), s.moments.as_detached_tensor())).collect()
    }

    /// Step counts by parameter name, for saving.
    pub fn steps(&self) -> BTreeMap<String, u64> {
        self.states.iter().map(|(name, s)| (name.clone(), s.steps)).collect()
    }

    /// Restores what [`Optimizer::moments`] and [`Optimizer::steps`] gave.
    pub fn restore(&mut self, moments: &BTreeMap<String, Tensor>, steps: &BTreeMap<String, u64>) -> Result<()> {
        if !moments.keys().eq(steps.keys()) {
            bail!("the optimiser's moments and step counts are of different parameters")
        }
        self.states = moments
            .iter()
            .map(|(name, m)| {
                let state = State { steps: steps[name], moments: Var::from_tensor(&m.copy()?)? };
                Ok((name.clone(), state))
            })
            .collect::<Result<_>>()?;
        Ok(())
    }
}

fn adamw(state: &State, param: &Var, gradient: &Tensor, lr: f64, decay: f64) -> Result<()> {
    let (beta1, beta2) = (0.9f64, 0.999f64);
    let t = state.steps as f64;
    let c = update::AdamW { lr, decay, beta1, beta2, eps: 1e-8, bias1: 1. - beta1.powf(t), bias2: 1. - beta2.powf(t) };
    update::moments(&state.moments, gradient, c)?;
    update::adamw(param, &state.moments, c)
}

/// `mu = momentum mu + g`, `p -= lr mu`.
fn sgd(state: &State, param: &Var, gradient: Tensor, lr: f64) -> Result<()> {
    let moved = ((state.moments.as_tensor() * MOMENTUM)? + gradient.reshape(state.moments.shape())?)?;
    state.moments.set(&moved)?;
    param.set(&(param.as_tensor() - (moved.reshape(param.shape())? * lr)?)?)
}

fn lars(state: &State, param: &Var, gradient: &Tensor, lr: f64, decay: f64) -> Result<()> {
    if param.rank() == 1 {
        return sgd(state, param, gradient.clone(), lr);
    }
    let gradient = (gradient + (param.as_tensor() * decay)?)?;
    let size = |t: &Tensor| t.sqr()?.sum_all()?.sqrt()?.to_dtype(DType::F64)?.to_scalar::<f64>();
    let (p, g) = (size(param)?, size(&gradient)?);
    let trust = if p > 0. && g > 0. { LARS_ETA * p / g } else { 1. };
    sgd(state, param, (gradient * trust)?, lr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

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
            let p = Var::from_vec(vec![1f64], (1, 1), &Device::Cpu)?;
            let params = [("w.weight".to_string(), p.clone())];
            let mut optimizer = Optimizer::new(algorithm);
            for _ in 0..2 {
                let grads = (p.as_tensor() * g)?.sum_all()?.backward()?;
                optimizer.step(&params, &grads, lr, wd)?;
            }
            let got = p.flatten_all()?.to_vec1::<f64>()?[0];
            assert!((got - want).abs() < 1e-7, "{algorithm:?}: {got}, by hand {want}");
        }
        Ok(())
    }

    #[test]
    fn restored_moments_continue_identically() -> Result<()> {
        let start = selfpatch_nn::random::normal(1, (3, 4))?;
        let run = |p: &Var, o: &mut Optimizer, n: usize| -> Result<()> {
            for _ in 0..n {
                let grads = p.sqr()?.sum_all()?.backward()?;
                o.step(&[("w".into(), p.clone())], &grads, 0.01, 0.1)?;
            }
            Ok(())
        };
        let (a, b) = (Var::from_tensor(&start.copy()?)?, Var::from_tensor(&start.copy()?)?);
        let mut straight = Optimizer::new(Algorithm::AdamW);
        run(&a, &mut straight, 5)?;
        let mut first = Optimizer::new(Algorithm::AdamW);
        run(&b, &mut first, 2)?;
        let mut second = Optimizer::new(Algorithm::AdamW);
        second.restore(&first.moments().into_iter().collect(), &first.steps())?;
        run(&b, &mut second, 3)?;
        assert_eq!(a.to_vec2::<f32>()?, b.to_vec2::<f32>()?);
        Ok(())
    }

    #[test]
    fn no_gradient_no_change() -> Result<()> {
        let (p, q) = (Var::ones(2, DType::F32, &Device::Cpu)?, Var::ones(2, DType::F32, &Device::Cpu)?);
        let grads = p.sum_all()?.backward()?;
        let mut optimizer = Optimizer::new(Algorithm::AdamW);
        optimizer.step(&[("p".into(), p), ("q.x".into(), q.clone())], &grads, 0.1, 0.5)?;
        assert_eq!(q.to_vec1::<f32>()?, [1., 1.]);
        assert!(!optimizer.steps().contains_key("q.x"));
        Ok(())
    }
}
