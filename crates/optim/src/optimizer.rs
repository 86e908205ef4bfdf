//! The optimisers the reference offers.

use crate::ema::check_alike;
use crate::groups::is_decayed;
use crate::norms::{Norms, clip_factor};
use crate::state::States;
use crate::update;
use candle_core::{Result, Tensor, Var};
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
    /// Largest norm of a gradient tensor ([`clip_factor`]); 0 for no clipping.
    pub clip: f64,
    /// What the loss was multiplied with before its gradients were taken; they are divided by it. 1 if it was not.
    pub scale: f64,
    /// Momentum of the teacher.
    pub momentum: f64,
}

impl Default for Step {
    fn default() -> Self {
        Self { lr: 0., weight_decay: 0., clip: 0., scale: 1., momentum: 0. }
    }
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
    /// Without any state yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, states: States::default() }
    }

    /// One step over all parameters that have a gradient, each gradient clipped on its own; weight decay
    /// only where [`is_decayed`]. `teacher` then follows (see [`ema`](crate::ema)).
    ///
    /// If a norm is not finite, neither parameters nor moments, counts or teacher change; the caller finds
    /// it among the norms.
    ///
    /// AdamW and the average are one pass over memory: for each parameter on the CPU in f32, over all of them
    /// on a CUDA device, which alone decides whether to do the step, so that the host need not wait for it.
    /// The other algorithms copy the norms from the device first.
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
        #[cfg(feature = "cuda")]
        if self.algorithm == Algorithm::AdamW && crate::cuda::applies(student, teacher) {
            return crate::cuda::adamw(&mut self.states, student, teacher, grads, step);
        }
        let norms = Norms::measure(student, grads, step.scale)?;
        let values = norms.fetch()?;
        if values.iter().any(|norm| !norm.is_finite()) {
            return Ok(norms);
        }
        let mut factors = values.iter().map(|&norm| clip_factor(norm, step.clip) / step.scale).peekable();
        for (name, param) in student.iter() {
            let follower = follower(teacher, &name);
            let followed = match factors.next_if(|_| grads.contains(&param)) {
                Some(factor) => self.update(&name, &param, follower.as_ref(), grads, factor, step)?,
                None => false,
            };
            if let (false, Some(follower)) = (followed, &follower) {
                update::average(follower, param.as_tensor(), step.momentum)?;
            }
        }
        Ok(norms)
    }

    /// Steps one parameter; whether its follower has moved too.
    fn update(
        &mut self,
        name: &str,
        param: &Var,
        follower: Option<&Var>,
        grads: &Gradients,
        factor: f64,
        step: &Step,
    ) -> Result<bool> {
        let decay = if is_decayed(name, param.rank()) { step.weight_decay } else { 0. };
        let rows = if self.algorithm == Algorithm::AdamW { 2 } else { 1 };
        let state = self.states.of(name, param, rows)?;
        state.advance()?;
        if self.algorithm == Algorithm::AdamW && update::in_place(param) {
            let one_pass = |g: &[f32]| {
                let average = follower.map(|follower| (follower, step.momentum));
                let coefficients = adamw_coefficients(state.steps()?, step.lr, decay);
                update::adamw_and_average(param, &state.moments, average, g, factor, coefficients)
            };
            if let Some(done) = grads.with(param, one_pass) {
                return done.map(|()| true);
            }
        }
        let Some(gradient) = grads.get(param) else { return Ok(false) };
        let gradient = if factor != 1. { (gradient * factor)? } else { gradient };
        match self.algorithm {
            Algorithm::AdamW => {
                adamw(&state.moments, param, &gradient, adamw_coefficients(state.steps()?, step.lr, decay))?
            }
            Algorithm::Sgd => sgd(&state.moments, param, (gradient + (param.as_tensor() * decay)?)?, step.lr)?,
            Algorithm::Lars => lars(&state.moments, param, &gradient, step.lr, decay)?,
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

/// The teacher's parameter that follows this one of the student.
pub(crate) fn follower(teacher: Option<&Params>, name: &str) -> Option<Var> {
    teacher.filter(|_| !is_buffer(name)).and_then(|teacher| teacher.get(name))
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
                optimizer.step(&params, None, &grads, &Step { lr, weight_decay: wd, ..Step::default() })?;
            }
            let got = p.flatten_all()?.to_vec1::<f64>()?[0];
            assert!((got - want).abs() < 1e-7, "{algorithm:?}: {got}, by hand {want}");
        }
        Ok(())
    }
}
