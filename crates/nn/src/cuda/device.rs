//! The device as the kernels here want it.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::{Device, Result};

/// GPU number `ordinal` with one stream for all threads of this process, and memory that is kept from step
/// to step.
pub fn new(ordinal: usize) -> Result<Device> {
    // `Device::new_cuda` would give each thread of the host a stream of its own.
    let device = Device::new_cuda_with_stream(ordinal)?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: there is one stream, so that nothing is used before it is written or freed while in use.
    unsafe { cuda.disable_event_tracking() };
    keep_memory(ordinal)?;
    Ok(device)
}

/// Keeps the driver's pool from handing memory back whenever the host waits for the device.
fn keep_memory(ordinal: usize) -> Result<()> {
    let cu = result::device::get(ordinal as i32).w()?;
    let mut pool: sys::CUmemoryPool = std::ptr::null_mut();
    let mut all = u64::MAX;
    // SAFETY: `pool` and `all` outlive the calls, and the attribute's value is a 64-bit number.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&mut pool, cu).result().w()?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut all).cast()).result().w()
    }
}
