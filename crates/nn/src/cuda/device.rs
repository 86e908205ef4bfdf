//! The device as the kernels here want it.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::{CudaDevice, Device, Result, bail};

/// GPU number `ordinal` with one stream for all threads of this process, and memory that is kept from step
/// to step.
pub fn new(ordinal: usize) -> Result<Device> {
    // `Device::new_cuda` would give each thread of the host a stream of its own.
    let device = Device::new_cuda_with_stream(ordinal)?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: there is one stream, so that nothing is used before it is written or freed while in use.
    unsafe { cuda.disable_event_tracking() };
    if let Some(pool) = pool(&device)? {
        keep_memory(pool)?;
    }
    Ok(device)
}

/// The device, which must be one that [`new`] made. Kernels are launched and memory is freed in the order of its
/// one stream; a device that tracks events may have others, among which nothing would keep this order.
pub fn own(device: &Device) -> Result<&CudaDevice> {
    let device = device.as_cuda_device()?;
    if device.cuda_stream().context().is_event_tracking() {
        bail!("the kernels need a CUDA device of selfpatch_nn::cuda::new_device; this one was made otherwise")
    }
    Ok(device)
}

/// The driver's pool that all memory comes from; `None` where the driver has none, as in some virtual machines, and
/// memory comes from it directly.
pub(super) fn pool(device: &Device) -> Result<Option<sys::CUmemoryPool>> {
    let stream = device.as_cuda_device()?.cuda_stream();
    let supported = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
    if stream.context().attribute(supported).w()? == 0 {
        return Ok(None);
    }
    let device = result::device::get(stream.context().ordinal() as i32).w()?;
    let mut pool: sys::CUmemoryPool = std::ptr::null_mut();
    // SAFETY: `pool` outlives the call.
    unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, device) }.result().w()?;
    Ok(Some(pool))
}

/// Keeps the pool from handing memory back whenever the host waits for the device.
fn keep_memory(pool: sys::CUmemoryPool) -> Result<()> {
    let mut all = u64::MAX;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the pool is the device's own, and the attribute's value is a 64-bit number that outlives the call.
    unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut all).cast()) }.result().w()
}
