//! The centre of the teacher's outputs, which keeps one prototype from winning everywhere.

use candle_core::{DType, Device, Result, Tensor, bail};

/// A running mean of teacher logits, `[1, K]`.
#[derive(Clone, Debug)]
pub struct Center {
    value: Tensor,
    momentum: f64,
}

impl Center {
    /// A centre of zeros for `classes` prototypes; 0.9 is DINO's momentum.
    pub fn new(classes: usize, momentum: f64, dtype: DType, device: &Device) -> Result<Self> {
        Ok(Self { value: Tensor::zeros((1, classes), dtype, device)?, momentum })
    }

    /// The centre, `[1, K]`.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// Replaces the centre, as when a run is resumed.
    pub fn set(&mut self, value: &Tensor) -> Result<()> {
        if value.elem_count() != self.value.elem_count() {
            bail!("the centre has shape {:?}, the value {:?}", self.value.dims(), value.dims())
        }
        let value = value.to_device(self.value.device())?.to_dtype(self.value.dtype())?;
        self.value = value.reshape(self.value.shape())?.detach();
        Ok(())
    }

    /// `c = m c + (1 - m) mean`, `mean [1, K]` being that of the teacher's rows.
    pub fn update(&mut self, mean: &Tensor) -> Result<()> {
        self.value = ((&self.value * self.momentum)? + (mean.detach() * (1. - self.momentum))?)?;
        Ok(())
    }
}
