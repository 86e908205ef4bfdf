//! An ordered, named set of parameters behind candle's [`VarBuilder`].

use crate::random::{Purpose, name_id, stream};
use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand_distr::{Distribution, Normal, Uniform};
use selfpatch_weights::{WeightsError, check_strict};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parameters in the order in which a model asked for them.
///
/// A model built from [`Params::builder`] creates each parameter with its initial value; the value
/// depends only on the seed and the parameter's name, not on the order. A clone shares the values.
#[derive(Clone)]
pub struct Params {
    seed: u64,
    trainable: bool,
    entries: Arc<Mutex<Entries>>,
}

#[derive(Default)]
struct Entries {
    order: Vec<(String, Var)>,
    index: HashMap<String, usize>,
}

impl Params {
    /// Parameters that receive gradients: a student.
    pub fn trainable(seed: u64) -> Self {
        Self { seed, trainable: true, entries: Arc::default() }
    }

    /// Parameters outside of any graph: a teacher. A model built from them records no operations,
    /// yet sees every in-place update of the values.
    pub fn frozen(seed: u64) -> Self {
        Self { seed, trainable: false, entries: Arc::default() }
    }

    /// The builder to construct a model with.
    pub fn builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, device.clone())
    }

    /// Names and variables in order of creation, buffers included.
    pub fn iter(&self) -> impl Iterator<Item = (String, Var)> {
        self.lock().order.clone().into_iter()
    }

    /// The variable called `name`.
    pub fn get(&self, name: &str) -> Option<Var> {
        let entries = self.lock();
        entries.index.get(name).map(|&i| entries.order[i].1.clone())
    }

    /// Number of named tensors.
    pub fn len(&self) -> usize {
        self.lock().order.len()
    }

    /// Whether no model has been built yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names and tensors, for saving.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        self.iter().map(|(name, var)| (name, var.as_detached_tensor())).collect()
    }

    /// Names and shapes, for a strict comparison with a file.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.iter().map(|(name, var)| (name, var.dims().to_vec())).collect()
    }

    /// Overwrites every value, in place. `values` must hold exactly the names of this set.
    pub fn assign<'a>(&self, values: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<()> {
        let mut values: HashMap<&str, &Tensor> = values.into_iter().collect();
        for (name, var) in self.iter() {
            let Some(value) = values.remove(name.as_str()) else { bail!("no value for parameter {name}") };
            if value.dims() != var.dims() {
                bail!("parameter {name} has shape {:?}, the value {:?}", var.dims(), value.dims())
            }
            // A copy: the parameter must not share storage with the caller's tensor.
            var.set(&value.to_dtype(var.dtype())?.to_device(var.device())?.copy()?)?;
        }
        match values.into_keys().min() {
            Some(name) => bail!("there is no parameter called {name}"),
            None => Ok(()),
        }
    }

    /// Overwrites every value, in place, by the tensors of the file `origin`, whose dtypes are converted.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`], which lists every missing, extra and mis-shaped name.
    pub fn load(&self, tensors: &BTreeMap<String, Tensor>, origin: &Path) -> std::result::Result<(), WeightsError> {
        check_strict(&self.shapes(), tensors, origin)?;
        let assigned = self.assign(tensors.iter().map(|(name, t)| (name.as_str(), t)));
        assigned.map_err(|e| WeightsError::Model { path: origin.to_path_buf(), source: Box::new(e) })
    }

    /// What a model sees of a parameter: a node of the graph only if it is to be trained.
    fn shown(&self, name: &str, var: &Var) -> Tensor {
        if self.trainable && !is_buffer(name) { var.as_tensor().clone() } else { var.as_detached_tensor() }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // No code panics while holding the lock; if it did, the entries are still whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a name belongs to a buffer: saved, but never trained, decayed or averaged.
pub fn is_buffer(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}

impl SimpleBackend for Params {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut entries = self.lock();
        let var = match entries.index.get(name) {
            Some(&i) => {
                let var = entries.order[i].1.clone();
                if var.shape() != &shape {
                    bail!("parameter {name} has shape {:?}, a model asks for {shape:?}", var.shape())
                }
                same_kind(name, &var, dtype, device)?;
                var
            }
            None => {
                let var = Var::from_tensor(&initial(self.seed, name, init, &shape, dtype, device)?)?;
                let at = entries.order.len();
                entries.index.insert(name.to_string(), at);
                entries.order.push((name.to_string(), var.clone()));
                var
            }
        };
        Ok(self.shown(name, &var))
    }

    /// An existing parameter, whatever its shape; "unchecked" is candle's word for that.
    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some(var) = Params::get(self, name) else { bail!("there is no parameter called {name}") };
        same_kind(name, &var, dtype, device)?;
        Ok(self.shown(name, &var))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        Params::get(self, name).is_some()
    }
}

/// Refuses a parameter of another type or on another device than a model asks for: parameters are shared as they are.
fn same_kind(name: &str, var: &Var, dtype: DType, device: &Device) -> Result<()> {
    if var.dtype() != dtype || !var.device().same_device(device) {
        let (found, place) = (var.dtype(), var.device().location());
        bail!("parameter {name} is {found:?} on {place:?}, a model asks for {dtype:?} on {:?}", device.location())
    }
    Ok(())
}

/// The value a parameter starts with.
fn initial(seed: u64, name: &str, init: Init, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
    let mut rng = stream(seed, Purpose::Init, 0, name_id(name));
    let n = shape.elem_count();
    let fail = |e: &dyn std::fmt::Display| candle_core::Error::Msg(format!("initial value of {name}: {e}"));
    let values: Vec<f32> = match init {
        Init::Const(value) => vec![value as f32; n],
        Init::Randn { mean, stdev } => {
            let normal = Normal::new(mean as f32, stdev as f32).map_err(|e| fail(&e))?;
            normal.sample_iter(&mut rng).take(n).collect()
        }
        Init::Uniform { lo, up } => {
            let uniform = Uniform::new(lo as f32, up as f32).map_err(|e| fail(&e))?;
            uniform.sample_iter(&mut rng).take(n).collect()
        }
        Init::Kaiming { .. } => return Err(fail(&"state the bounds of a Kaiming initialisation as Init::Uniform")),
    };
    Tensor::from_vec(values, shape.clone(), device)?.to_dtype(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_depend_on_seed_and_name_only() -> Result<()> {
        let init = Init::Randn { mean: 0., stdev: 1. };
        let value = |seed, names: &[&str], wanted: &str| -> Result<Vec<f32>> {
            let params = Params::trainable(seed);
            let vb = params.builder(DType::F32, &Device::Cpu);
            for name in names {
                vb.get_with_hints(5, name, init)?;
            }
            vb.get_with_hints(5, wanted, init)?.to_vec1()
        };
        assert_eq!(value(1, &["a", "b"], "b")?, value(1, &["b", "a"], "b")?);
        assert_ne!(value(1, &["a"], "a")?, value(2, &["a"], "a")?);
        assert_ne!(value(1, &[], "a")?, value(1, &[], "b")?);
        Ok(())
    }

    #[test]
    fn what_is_asked_for_without_a_shape_is_the_same_parameter() -> Result<()> {
        let params = Params::trainable(0);
        let vb = params.builder(DType::F32, &Device::Cpu);
        for name in ["w", "norm.running_mean", "norm.running_var"] {
            let made = vb.get_with_hints(2, name, candle_nn::init::ONE)?;
            let again = vb.get_unchecked(name)?;
            assert_eq!((made.track_op(), again.track_op()), (name == "w", name == "w"), "{name}");
            assert!(vb.get_unchecked_dtype(name, DType::F64).is_err(), "{name}");
        }
        assert!(params.builder(DType::F64, &Device::Cpu).get_with_hints(2, "w", candle_nn::init::ONE).is_err());
        assert!(vb.get_unchecked("none").is_err());
        Ok(())
    }

    #[test]
    fn frozen_sets_record_nothing_but_see_updates() -> Result<()> {
        let params = Params::frozen(0);
        let t = params.builder(DType::F32, &Device::Cpu).get_with_hints(2, "w", candle_nn::init::ONE)?;
        assert!(!t.track_op());
        params.assign([("w", &Tensor::new(&[3f32, 4.], &Device::Cpu)?)])?;
        assert_eq!(t.to_vec1::<f32>()?, [3., 4.]);
        Ok(())
    }

    #[test]
    fn assign_is_strict() -> Result<()> {
        let params = Params::trainable(0);
        params.builder(DType::F32, &Device::Cpu).get_with_hints(2, "w", candle_nn::init::ONE)?;
        let (two, three) = (Tensor::new(&[3f32, 4.], &Device::Cpu)?, Tensor::new(&[3f32, 4., 5.], &Device::Cpu)?);
        assert!(params.assign([]).is_err());
        assert!(params.assign([("w", &three)]).is_err());
        assert!(params.assign([("w", &two), ("x", &two)]).is_err());
        params.assign([("w", &two)])
    }
}
