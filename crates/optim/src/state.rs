//! What an optimiser remembers of each parameter.

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use std::collections::BTreeMap;

/// Moments and step count of one parameter, on its device.
pub(crate) struct State {
    /// Steps done so far: one u32, so that a device which skips a step does not count it either.
    pub steps: Var,
    /// Moments, `[rows, n]` for a parameter of `n` elements.
    pub moments: Var,
}

impl State {
    fn restored(moments: &Tensor, steps: u64) -> Result<Self> {
        let Ok(steps) = u32::try_from(steps) else { bail!("a step count of {steps} is beyond any training") };
        Ok(Self { steps: Var::new(steps, moments.device())?, moments: Var::from_tensor(&moments.copy()?)? })
    }

    /// A copy of the state on `device`: where its parameter is, after the state was restored elsewhere.
    fn on(&self, device: &Device) -> Result<Self> {
        let copy = |var: &Var| Var::from_tensor(&var.as_detached_tensor().to_device(device)?);
        Ok(Self { steps: copy(&self.steps)?, moments: copy(&self.moments)? })
    }

    /// The step count, on the host.
    pub fn steps(&self) -> Result<u32> {
        self.steps.to_scalar()
    }

    /// Counts one more step, on the device.
    pub fn advance(&self) -> Result<()> {
        self.steps.set(&(self.steps.as_tensor() + Tensor::new(1u32, self.steps.device())?)?)
    }
}

/// The states of all parameters that have ever had a gradient, by name.
#[derive(Default)]
pub(crate) struct States(BTreeMap<String, State>);

impl States {
    /// The state of a parameter; zeros if it has none yet.
    pub fn of(&mut self, name: &str, param: &Var, rows: usize) -> Result<&State> {
        let (shape, device) = ([rows, param.elem_count()], param.device());
        let missing = match self.0.get(name) {
            None => {
                let moments = Var::zeros(&shape[..], param.dtype(), device)?;
                Some(State { steps: Var::zeros((), DType::U32, device)?, moments })
            }
            Some(state) if !state.moments.device().same_device(device) => Some(state.on(device)?),
            Some(_) => None,
        };
        if let Some(state) = missing {
            self.0.insert(name.to_string(), state);
        }
        let state = &self.0[name];
        if state.moments.dims() != shape || state.moments.dtype() != param.dtype() {
            let moments = state.moments.dims();
            bail!("{name}: moments {moments:?} do not fit a parameter {:?} under this optimiser", param.dims())
        }
        Ok(state)
    }

    /// Moments by name.
    pub fn moments(&self) -> Vec<(String, Tensor)> {
        self.0.iter().map(|(name, s)| (name.clone(), s.moments.as_detached_tensor())).collect()
    }

    /// Step counts by name.
    pub fn steps(&self) -> Result<BTreeMap<String, u64>> {
        self.0.iter().map(|(name, s)| Ok((name.clone(), u64::from(s.steps()?)))).collect()
    }

    /// States restored from what [`States::moments`] and [`States::steps`] gave.
    pub fn restored(moments: &BTreeMap<String, Tensor>, steps: &BTreeMap<String, u64>) -> Result<Self> {
        if !moments.keys().eq(steps.keys()) {
            bail!("the optimiser's moments and step counts are of different parameters")
        }
        let states = moments.iter().map(|(name, m)| Ok((name.clone(), State::restored(m, steps[name])?)));
        states.collect::<Result<_>>().map(Self)
    }
}
