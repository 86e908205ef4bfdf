//! What a device's pool of memory, where all tensors come from, has given out.

use super::device::pool;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys;
use candle_core::{Device, Result};

/// Most memory at a time since [`reset_peak`], in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// Bytes held by tensors.
    pub used: u64,
    /// Bytes held by the pool, to be used again.
    pub reserved: u64,
}

/// Starts to measure the most memory anew, if the device has a pool.
pub fn reset_peak(device: &Device) -> Result<()> {
    let Some(pool) = pool(device)? else { return Ok(()) };
    for attribute in [HIGH, RESERVED] {
        let mut zero = 0u64;
        // SAFETY: the pool is the device's own; these attributes are 64-bit numbers that may be set to 0.
        unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut zero).cast()) }.result().w()?;
    }
    Ok(())
}

/// The most memory since [`reset_peak`]; `None` without a pool, which alone knows.
pub fn peak(device: &Device) -> Result<Option<Peak>> {
    let Some(pool) = pool(device)? else { return Ok(None) };
    let read = |attribute| {
        let mut value = 0u64;
        // SAFETY: as above; the value outlives the call.
        unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast()) }.result().w()?;
        Ok::<_, candle_core::Error>(value)
    };
    Ok(Some(Peak { used: read(HIGH)?, reserved: read(RESERVED)? }))
}

/// Returns to the driver the memory that no tensor holds, for other processes.
pub fn release(device: &Device) -> Result<()> {
    device.synchronize()?;
    let Some(pool) = pool(device)? else { return Ok(()) };
    // SAFETY: memory that is in use stays.
    unsafe { sys::cuMemPoolTrimTo(pool, 0) }.result().w()
}

const HIGH: sys::CUmemPool_attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
const RESERVED: sys::CUmemPool_attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH;
