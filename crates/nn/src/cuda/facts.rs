//! What a device says about itself.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys;
use candle_core::{Device, Result};

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Name of the GPU.
    pub name: String,
    /// Compute capability, such as (9, 0).
    pub compute_capability: (i32, i32),
    /// Number of multiprocessors (SMs).
    pub multiprocessors: i32,
    /// Bytes of memory.
    pub memory: usize,
    /// Newest CUDA that the driver can do, such as (13, 0).
    pub cuda: (i32, i32),
}

/// Asks the driver for the facts of a device.
pub fn facts(device: &Device) -> Result<Facts> {
    let stream = device.as_cuda_device()?.cuda_stream();
    let context = stream.context();
    let count = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    let mut version = 0;
    // SAFETY: `version` outlives the call.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().w()?;
    Ok(Facts {
        name: context.name().w()?,
        compute_capability: context.compute_capability().w()?,
        multiprocessors: context.attribute(count).w()?,
        memory: context.total_mem().w()?,
        cuda: (version / 1000, version % 1000 / 10),
    })
}
