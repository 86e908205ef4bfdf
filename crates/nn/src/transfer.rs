//! What comes back from a device.
//!
//! A training step reads its numbers once, when all of it is under way: each time that the host waits for a GPU,
//! the GPU then waits for the host. All reading in training goes through here, where it is counted.

use candle_core::{DType, Device, Result, Tensor};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// How often this process has read from a device, the CPU included.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// All elements of `t`, row by row; waits until they are computed.
pub fn to_host(t: &Tensor) -> Result<Vec<f64>> {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let host = t.detach().to_dtype(DType::F64)?.flatten_all()?.to_device(&Device::Cpu)?;
    // Whether a copy to ordinary memory is over when the call returns is the driver's affair.
    t.device().synchronize()?;
    host.to_vec1()
}

/// Tensors of one device that are read together.
#[derive(Default)]
pub struct Parcel {
    parts: Vec<Tensor>,
    len: usize,
}

impl Parcel {
    /// Adds `t`; returns where its elements will be.
    pub fn add(&mut self, t: &Tensor) -> Result<Range<usize>> {
        let flat = t.detach().to_dtype(DType::F64)?.flatten_all()?;
        let start = self.len;
        self.len += flat.elem_count();
        self.parts.push(flat);
        Ok(start..self.len)
    }

    /// All elements, in the order in which they were added: one transfer.
    pub fn read(self) -> Result<Vec<f64>> {
        match self.parts.is_empty() {
            true => Ok(Vec::new()),
            false => to_host(&Tensor::cat(&self.parts, 0)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parcel_is_read_at_once_and_in_order() -> Result<()> {
        let mut parcel = Parcel::default();
        let a = parcel.add(&Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?)?;
        let b = parcel.add(&Tensor::new(7u32, &Device::Cpu)?)?;
        let before = count();
        let values = parcel.read()?;
        assert!(count() > before); // other tests read too
        assert_eq!((&values[a], &values[b]), (&[1., 2., 3., 4.][..], &[7.][..]));
        assert!(Parcel::default().read()?.is_empty());
        Ok(())
    }
}
