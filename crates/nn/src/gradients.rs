//! The backward pass of a network made of coarse ops.
//!
//! candle hands a custom op at most three tensors and adds up their gradients itself, in passes of
//! their own. A coarse op has dozens of parameters: it holds them, and its backward pass deposits
//! their gradients here, in memory that is kept from step to step.

use crate::kernel::{Buffer, View};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId, bail};
use rayon::prelude::*;
use selfpatch_simd::wide;
use std::cell::RefCell;
use std::collections::HashMap;

/// Gradients of parameters, those inside fused ops included.
pub struct Gradients {
    /// Gradients of whatever candle itself differentiated.
    store: GradStore,
    deposits: Deposits,
}

/// Deposited gradients by parameter.
type Deposits = HashMap<TensorId, (Tensor, Sum)>;

/// A gradient that fused ops have added up.
enum Sum {
    /// A sum in kept memory of the host.
    Host(Buffer),
    /// A sum on the parameter's device.
    Device(Tensor),
}

impl Sum {
    fn len(&self) -> usize {
        match self {
            Self::Host(values) => values.len(),
            Self::Device(values) => values.elem_count(),
        }
    }

    /// The sum as a tensor like `parameter`: a copy if it lies on the host.
    fn tensor(&self, parameter: &Tensor) -> Result<Tensor> {
        match self {
            Self::Host(values) => Tensor::from_slice(values, parameter.shape(), parameter.device()),
            Self::Device(values) => values.reshape(parameter.shape()),
        }
    }

    fn add(&mut self, more: &Sum) -> Result<()> {
        match (self, more) {
            (Self::Host(sum), Self::Host(more)) => add(sum, more),
            (Self::Device(sum), Self::Device(more)) => *sum = (&*sum + more.reshape(sum.shape())?)?,
            _ => bail!("gradients of one parameter on two devices"),
        }
        Ok(())
    }

    fn add_tensor(&mut self, more: &Tensor) -> Result<()> {
        match self {
            Self::Host(sum) => add(sum, &View::of(&more.contiguous()?)?),
            Self::Device(sum) => *sum = (&*sum + more.reshape(sum.shape())?)?,
        }
        Ok(())
    }
}

thread_local! {
    /// What the ops of the running backward pass have deposited; `None` while there is none.
    static DEPOSITS: RefCell<Option<Deposits>> = const { RefCell::new(None) };
}

/// Gradients of `loss`, a scalar, for all parameters. Use it in place of [`Tensor::backward`], which
/// the fused ops refuse.
pub fn backward(loss: &Tensor) -> Result<Gradients> {
    let outer = Outer(DEPOSITS.replace(Some(HashMap::new())));
    let mut store = loss.backward()?;
    let mut deposits = DEPOSITS.take().unwrap_or_default();
    drop(outer);
    for (parameter, sum) in deposits.values_mut() {
        if let Some(more) = store.remove(parameter) {
            sum.add_tensor(&more)?;
        }
    }
    Ok(Gradients { store, deposits })
}

/// Puts back the deposits from before a backward pass, however that pass ends.
struct Outer(Option<Deposits>);

impl Drop for Outer {
    fn drop(&mut self) {
        DEPOSITS.set(self.0.take());
    }
}

impl Gradients {
    /// The gradient of a parameter, as a tensor of its own.
    pub fn get(&self, parameter: &Tensor) -> Option<Tensor> {
        match self.deposits.get(&parameter.id()) {
            // As many elements as the parameter has: this cannot fail.
            Some((_, values)) => values.tensor(parameter).ok(),
            None => self.store.get(parameter).cloned(),
        }
    }

    /// Whether a parameter has a gradient.
    pub fn contains(&self, parameter: &Tensor) -> bool {
        self.deposits.contains_key(&parameter.id()) || self.store.get(parameter).is_some()
    }

    /// Runs `f` on the values of a gradient, without a copy if they lie in memory as f32; `None` if
    /// there are no such values.
    pub fn with<R>(&self, parameter: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Option<Result<R>> {
        match self.deposits.get(&parameter.id()) {
            Some((_, Sum::Host(values))) => return Some(f(values)),
            Some((_, Sum::Device(_))) => return None,
            None => {}
        }
        let gradient = self.store.get(parameter)?;
        let view = View::of(gradient).ok()?;
        Some(f(&view))
    }

    /// Replaces a gradient.
    pub fn set(&mut self, parameter: &Tensor, gradient: Tensor) {
        self.deposits.remove(&parameter.id());
        self.store.insert(parameter, gradient);
    }

    /// Forgets a gradient.
    pub fn remove(&mut self, parameter: &Tensor) {
        self.deposits.remove(&parameter.id());
        self.store.remove(parameter);
    }

    /// Adds the gradients that `parameters` have in `other`.
    pub fn add<'a>(&mut self, mut other: Self, parameters: impl IntoIterator<Item = &'a Tensor>) -> Result<()> {
        for parameter in parameters {
            let id = parameter.id();
            let more = other.deposits.remove(&id);
            if let (Some((_, sum)), Some((_, more))) = (self.deposits.get_mut(&id), &more) {
                sum.add(more)?;
                continue;
            }
            let more = match more {
                Some(more) if !self.contains(parameter) => {
                    self.deposits.insert(id, more);
                    continue;
                }
                Some((_, more)) => Some(more.tensor(parameter)?),
                None => other.store.remove(parameter),
            };
            let Some(more) = more else { continue };
            let sum = match self.get(parameter) {
                Some(sum) => (sum + more)?,
                None => more,
            };
            self.set(parameter, sum);
        }
        Ok(())
    }
}

/// Adds `gradient()` to what `parameter` gets from the running backward pass; nothing is computed for
/// a frozen parameter.
pub(crate) fn deposit(parameter: &Tensor, gradient: impl FnOnce() -> Buffer) -> Result<()> {
    deposit_sum(parameter, || Ok(Sum::Host(gradient())))
}

/// Adds `gradient()`, which lies on the parameter's device in f32 and in any shape of as many elements, to what
/// `parameter` gets from the running [`backward`] pass; nothing is computed for a frozen parameter.
pub fn deposit_tensor(parameter: &Tensor, gradient: impl FnOnce() -> Result<Tensor>) -> Result<()> {
    deposit_sum(parameter, || Ok(Sum::Device(gradient()?)))
}

fn deposit_sum(parameter: &Tensor, gradient: impl FnOnce() -> Result<Sum>) -> Result<()> {
    if !parameter.track_op() {
        return Ok(());
    }
    if !parameter.is_variable() {
        bail!("a fused op needs the trained parameter itself, not {:?} made from it", parameter.dims())
    }
    if DEPOSITS.with_borrow(Option::is_none) {
        bail!("the backward pass of a fused op must be started by selfpatch_nn::backward, not by Tensor::backward")
    }
    let gradient = gradient()?;
    if gradient.len() != parameter.elem_count() {
        bail!("a gradient of {} elements for a parameter {:?}", gradient.len(), parameter.dims())
    }
    let before = DEPOSITS.with_borrow_mut(|deposits| deposits.as_mut().and_then(|d| d.remove(&parameter.id())));
    // Added outside of the borrow: this thread may run another task meanwhile.
    let entry = match before {
        Some((parameter, mut sum)) => {
            sum.add(&gradient)?;
            (parameter, sum)
        }
        None => (parameter.clone(), gradient),
    };
    DEPOSITS.with_borrow_mut(|deposits| deposits.as_mut().map(|d| d.insert(parameter.id(), entry)));
    Ok(())
}

/// `sum += more`.
fn add(sum: &mut [f32], more: &[f32]) {
    const CHUNK: usize = 1 << 15;
    sum.par_chunks_mut(CHUNK).zip(more.par_chunks(CHUNK)).for_each(|(sum, more)| {
        wide!(sum.iter_mut().zip(more).for_each(|(s, m)| *s += m));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Linear, Params, ops};
    use candle_core::{DType, Device};

    /// A parameter of a fused op that candle's own ops use too, taken twice, and once more.
    #[test]
    fn all_ways_to_a_parameter_add_up() -> Result<()> {
        let loss = |params: &Params, fused: bool| -> Result<Tensor> {
            let layer = Linear::new(3, 2, params.builder(DType::F32, &Device::Cpu))?;
            let x = crate::random::normal(1, (5, 3))?;
            let layers = [layer.clone()];
            let y = if fused { ops::mlp(&x, &layers)? } else { ops::mlp_reference(&x, &layers)? };
            let twice = if fused { ops::mlp(&x, &layers)? } else { ops::mlp_reference(&x, &layers)? };
            (y.sqr()?.sum_all()? + twice.sum_all()?)? + layer.weight.sqr()?.sum_all()?
        };
        let params = Params::trainable(0);
        let want = backward(&loss(&params, false)?)?;
        let mut got = backward(&loss(&params, true)?)?;
        let compare = |got: &Gradients, factor: f64| -> Result<()> {
            for (name, var) in params.iter() {
                let (got, want) = (got.get(&var).expect("a gradient"), want.get(&var).expect("a gradient"));
                let error = (got - (want * factor)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(error < 1e-5, "{name}: {error}");
            }
            Ok(())
        };
        compare(&got, 1.)?;
        let vars: Vec<_> = params.iter().map(|(_, v)| v).collect();
        let tensors = || vars.iter().map(|v| v.as_tensor());
        got.add(backward(&loss(&params, true)?)?, tensors())?;
        got.add(backward(&loss(&params, false)?)?, tensors())?;
        compare(&got, 3.)?;
        got.remove(&vars[0]);
        assert!(!got.contains(&vars[0]) && got.get(&vars[0]).is_none());
        Ok(())
    }
}
