//! What a device's pool of memory, where all tensors come from, has given out.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::{Device, Result};

/// Most memory at a time since [`reset_peak`], in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// Held by tensors.
    pub used: u64,
    /// Held by the pool, to be used again.
    pub reserved: u64,
}

/// Begins to look for the most memory anew.
pub fn reset_peak(device: &Device) -> Result<()> {
    let pool = pool(device)?;
    for attribute in [HIGH, RESERVED] {
        let mut zero = 0u64;
        // SAFETY: the pool is the device's own; these attributes are 64-bit numbers that may be set to 0.
        unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut zero).cast()) }.result().w()?;
    }
    Ok(())
}

/// The most memory since then.
pub fn peak(device: &Device) -> Result<Peak> {
    let pool = pool(device)?;
    let read = |attribute| {
        let mut value = 0u64;
        // SAFETY: as above; the value outlives the call.
        unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast()) }.result().w()?;
        Ok::<_, candle_core::Error>(value)
    };
    Ok(Peak { used: read(HIGH)?, reserved: read(RESERVED)? })
}

/// Gives what no tensor holds back to the driver, for other processes.
pub fn release(device: &Device) -> Result<()> {
    device.synchronize()?;
    // SAFETY: memory that is in use stays.
    unsafe { sys::cuMemPoolTrimTo(pool(device)?, 0) }.result().w()
}

const HIGH: sys::CUmemPool_attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
const RESERVED: sys::CUmemPool_attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH;

fn pool(device: &Device) -> Result<sys::CUmemoryPool> {
    let ordinal = device.as_cuda_device()?.cuda_stream().context().ordinal();
    let device = result::device::get(ordinal as i32).w()?;
    let mut pool: sys::CUmemoryPool = std::ptr::null_mut();
    // SAFETY: `pool` outlives the call.
    unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, device) }.result().w()?;
    Ok(pool)
}
