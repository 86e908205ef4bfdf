//! The optimisers the reference offers.

use crate::ema::check_alike;
use crate::groups::{clip_factor, is_decayed, norm};
use crate::update;
use candle_core::{DType, Result, Tensor, Var, bail};
use selfpatch_nn::{Gradients, Params, is_buffer};
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

/// What one step is done with.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Largest norm of each gradient tensor; 0 for no clipping.
    pub clip: f64,
    /// What the loss was multiplied with; gradients are divided by it first. 1 for none.
    pub scale: f64,
    /// Momentum of the teacher.
    pub momentum: f64,
}

impl Default for Step {
    fn default() -> Self {
        Self { lr: 0., weight_decay: 0., clip: 0., scale: 1., momentum: 0. }
    }
}

/// Norms of the gradients of a step, divided by its scale, before clipping.
pub struct Norms {
    /// Parameters that have a gradient, in the order of the parameters.
    pub names: Vec<String>,
    /// Their norms.
    pub values: Tensor,
}

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

    /// One step over all parameters that have a gradient, each gradient multiplied by its factor;
    /// weight decay only where [`is_decayed`]. `teacher` then follows (see [`ema`](crate::ema)): on the
    /// CPU in f32, AdamW and the average are one pass over memory.
    pub fn step(
        &mut self,
        student: &Params,
        teacher: Option<&Params>,
        grads: &Gradients,
        step: &Step,
    ) -> Result<Norms> {
        if let Some(teacher) = teacher {
            check_alike(teacher, student)?;
        }
        let (mut names, mut norms) = (Vec::new(), Vec::new());
        for (name, param) in student.iter() {
            if let Some(norm) = norm(grads, &param)? {
                names.push(name);
                norms.push(norm / step.scale);
            }
        }
        let (n, infinite) = (norms.len(), norms.iter().any(|n| !n.is_finite()));
        let mut each = norms.clone().into_iter();
        let norms = Norms { names, values: Tensor::from_vec(norms, n, &candle_core::Device::Cpu)? };
        if infinite {
            return Ok(norms);
        }
        for (name, param) in student.iter() {
            let follower = match teacher.filter(|_| !is_buffer(&name)) {
                Some(teacher) => teacher.get(&name),
                None => None,
            };
            let follow = |follower: &Option<Var>| match follower {
                Some(follower) => update::average(follower, param.as_tensor(), step.momentum),
                None => Ok(()),
            };
            if !grads.contains(&param) {
                follow(&follower)?;
                continue;
            }
            let factor = clip_factor(each.next().unwrap_or(0.), step.clip) / step.scale;
            let decay = if is_decayed(&name, param.rank()) { step.weight_decay } else { 0. };
            if !self.states.contains_key(&name) {
                let rows = if self.algorithm == Algorithm::AdamW { 2 } else { 1 };
                let moments = Var::zeros((rows, param.elem_count()), param.dtype(), param.device())?;
                self.states.insert(name.clone(), State { steps: 0, moments });
            }
            let Some(state) = self.states.get_mut(&name) else { continue };
            state.steps += 1;
            if self.algorithm == Algorithm::AdamW && update::in_place(&param) {
                let coefficients = adamw_coefficients(state.steps, step.lr, decay);
                let one_pass = |g: &[f32]| {
                    let average = follower.as_ref().map(|follower| (follower, step.momentum));
                    update::adamw_and_average(&param, &state.moments, average, g, factor, coefficients)
                };
                if let Some(done) = grads.with(&param, one_pass) {
                    done?;
                    continue;
                }
            }
            let Some(gradient) = grads.get(&param) else { continue };
            let gradient = if factor != 1. { (gradient * factor)? } else { gradient };
            match self.algorithm {
                Algorithm::AdamW => adamw(state, &param, &gradient, step.lr, decay)?,
                Algorithm::Sgd => sgd(state, &param, (gradient + (param.as_tensor() * decay)?)?, step.lr)?,
                Algorithm::Lars => lars(state, &param, &gradient, step.lr, decay)?,
            }
            follow(&follower)?;
        }
        Ok(norms)
    }

    /// Moments by parameter name, for saving.
    pub fn moments(&self) -> Vec<(String, Tensor)> {
        self.states.iter().map(|(name, s)| (name.clone(), s.moments.as_detached_tensor())).collect()
    }

    /// Step counts by parameter name, for saving.
    pub fn steps(&self) -> Result<BTreeMap<String, u64>> {
        Ok(self.states.iter().map(|(name, s)| (name.clone(), s.steps)).collect())
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

fn adamw_coefficients(steps: u64, lr: f64, decay: f64) -> update::AdamW {
    let (beta1, beta2) = (0.9f64, 0.999f64);
    let t = steps as f64;
    update::AdamW { lr, decay, beta1, beta2, eps: 1e-8, bias1: 1. - beta1.powf(t), bias2: 1. - beta2.powf(t) }
}

fn adamw(state: &State, param: &Var, gradient: &Tensor, lr: f64, decay: f64) -> Result<()> {
    let c = adamw_coefficients(state.steps, lr, decay);
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
    use candle_nn::Init;
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
                optimizer.step(&params, None, &grads, &Step { lr, weight_decay: wd, ..Step::default() })?;
            }
            let got = p.flatten_all()?.to_vec1::<f64>()?[0];
            assert!((got - want).abs() < 1e-7, "{algorithm:?}: {got}, by hand {want}");
        }
        Ok(())
    }

    fn pair(dtype: DType) -> Result<(Params, Params)> {
        let (student, teacher) = (Params::trainable(0), Params::frozen(1));
        for params in [&student, &teacher] {
            let vb = params.builder(dtype, &Device::Cpu);
            vb.get_with_hints((70, 1001), "w", Init::Randn { mean: 0., stdev: 1. })?;
            vb.get_with_hints(5, "w.bias", Init::Randn { mean: 0., stdev: 1. })?;
            vb.get_with_hints(3, "frozen", ONE)?;
        }
        Ok((student, teacher))
    }

    fn steps(optimizer: &mut Optimizer, student: &Params, teacher: Option<&Params>, n: usize) -> Result<()> {
        let used = ["w", "w.bias"].map(|name| student.get(name).expect("the parameter"));
        for _ in 0..n {
            let loss = (used[0].sqr()?.sum_all()? + used[1].sqr()?.sum_all()?)?;
            let step = Step { lr: 0.01, weight_decay: 0.1, momentum: 0.9, ..Step::default() };
            optimizer.step(student, teacher, &backward(&loss)?, &step)?;
        }
        Ok(())
    }

    #[test]
    fn one_pass_equals_the_plain_path_and_leaves_the_frozen_alone() -> Result<()> {
        let ((s32, t32), (s64, t64)) = (pair(DType::F32)?, pair(DType::F64)?);
        for (student, teacher) in [(&s32, &t32), (&s64, &t64)] {
            let mut optimizer = Optimizer::new(Algorithm::AdamW);
            steps(&mut optimizer, student, Some(teacher), 3)?;
            assert!(!optimizer.steps()?.contains_key("frozen"));
        }
        assert_eq!(s32.get("frozen").expect("the parameter").to_vec1::<f32>()?, [1.; 3]);
        for (fast, plain) in [(&s32, &s64), (&t32, &t64)] {
            for (name, var) in fast.iter() {
                let want = plain.get(&name).expect("the parameter");
                let error = (var.to_dtype(DType::F64)? - want.as_tensor())?.abs()?.max_all()?.to_scalar::<f64>()?;
                assert!(error < 2e-6, "{name}: {error}");
            }
        }
        Ok(())
    }

    #[test]
    fn restored_moments_continue_identically() -> Result<()> {
        let ((a, _), (b, _)) = (pair(DType::F32)?, pair(DType::F32)?);
        steps(&mut Optimizer::new(Algorithm::AdamW), &a, None, 5)?;
        let mut first = Optimizer::new(Algorithm::AdamW);
        steps(&mut first, &b, None, 2)?;
        let mut second = Optimizer::new(Algorithm::AdamW);
        second.restore(&first.moments().into_iter().collect(), &first.steps()?)?;
        steps(&mut second, &b, None, 3)?;
        for (name, var) in a.iter() {
            let other = b.get(&name).expect("the parameter");
            assert_eq!(var.flatten_all()?.to_vec1::<f32>()?, other.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    }
}
