//! Tensors as kernels take them: new memory, types of numbers, addresses.

use super::device::own;
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::{CudaDevice, CudaStorage, DType, Device, Result, Shape, Storage, Tensor, bail};

/// A tensor on a CUDA device whose elements are not written yet: any numbers. Other devices are refused, where reading
/// such elements would be undefined.
pub fn uninitialised(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    own(device)?;
    // SAFETY: the memory is the device's, which the host never reads in place; numbers of any bits are values.
    unsafe { Tensor::empty(shape, dtype, device) }
}

/// The end of a kernel's name that tells the type of its numbers.
pub fn suffix(dtype: DType) -> Result<&'static str> {
    Ok(match dtype {
        DType::F32 => "f32",
        DType::BF16 => "bf16",
        DType::F16 => "f16",
        other => bail!("there are no CUDA kernels for {other:?}"),
    })
}

/// Whether a fused CUDA op applies to `x`.
pub fn fusible(x: &Tensor) -> bool {
    x.device().is_cuda() && matches!(x.dtype(), DType::F32 | DType::BF16 | DType::F16)
}

/// Whether fused CUDA ops can hold these parameters: f32, and where they are trained, the variables themselves.
pub fn holds<'a>(parameters: impl IntoIterator<Item = &'a Tensor>) -> bool {
    let fits = |p: &Tensor| p.dtype() == DType::F32 && p.is_contiguous() && (!p.track_op() || p.is_variable());
    parameters.into_iter().all(fits)
}

/// `x` as kernels of f32 read it: contiguous, halves widened. Other types are refused.
pub(crate) fn single(x: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::F32 | DType::BF16 | DType::F16 => x.to_dtype(DType::F32)?.contiguous(),
        other => bail!("a CUDA kernel of f32 was given {other:?}"),
    }
}

/// Where the elements of a contiguous tensor begin on the device.
pub fn address(t: &Tensor) -> Result<u64> {
    let (storage, layout) = t.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { bail!("a CUDA kernel was given a tensor of another device") };
    let Some((start, _)) = layout.contiguous_offsets() else { bail!("a CUDA kernel needs contiguous tensors") };
    Ok(begin(storage)? + (start * t.dtype().size_in_bytes()) as u64)
}

fn begin(storage: &CudaStorage) -> Result<u64> {
    fn of<T>(slice: &CudaSlice<T>, device: &CudaDevice) -> u64 {
        slice.device_ptr(&device.cuda_stream()).0
    }
    let device = storage.device();
    Ok(match &storage.slice {
        CudaStorageSlice::U8(s) => of(s, device),
        CudaStorageSlice::U32(s) => of(s, device),
        CudaStorageSlice::I64(s) => of(s, device),
        CudaStorageSlice::BF16(s) => of(s, device),
        CudaStorageSlice::F16(s) => of(s, device),
        CudaStorageSlice::F32(s) => of(s, device),
        CudaStorageSlice::F64(s) => of(s, device),
        _ => bail!("there are no CUDA kernels for {:?}", storage.dtype()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cuda;

    #[test]
    fn no_unwritten_memory_of_the_host() {
        assert!(uninitialised(3, DType::F32, &Device::Cpu).is_err());
    }

    #[test]
    fn what_is_no_number_of_32_bits_at_most_is_refused() -> Result<()> {
        let Some(device) = cuda() else { return Ok(()) };
        for dtype in [DType::F64, DType::U8, DType::U32, DType::I64] {
            assert!(single(&Tensor::zeros(3, dtype, &device)?).is_err(), "{dtype:?}");
        }
        assert_eq!(single(&Tensor::zeros(3, DType::BF16, &device)?)?.dtype(), DType::F32);
        Ok(())
    }
}
