//! What the CUDA kernels are launched with: tensors in, tensors out, without a graph.
//!
//! Kernels lie beside their op as `.cu` files and are compiled to PTX by `build.rs`. Everything runs on
//! the device's one stream, in the order in which it is launched.

mod device;
mod facts;
mod matmul;
pub mod memory;
mod recorded;
mod run;
mod scale;
mod spread;

pub use device::new as new_device;
pub use facts::{Facts, facts};
pub(crate) use matmul::{add_matmul, matmul, matmul_into, t};
pub use recorded::record;
pub(crate) use run::aligned;
pub use run::run;
pub(crate) use scale::scale;
pub(crate) use spread::spread;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::{CudaDevice, CudaStorage, DType, Device, Result, Shape, Storage, Tensor, bail};

/// The kernels of one `.cu` file.
#[derive(Clone, Copy)]
pub struct Module {
    /// Name of the file, which is the module's.
    pub name: &'static str,
    /// Its PTX.
    pub ptx: &'static str,
}

/// The module of a `.cu` file of this crate.
#[macro_export]
macro_rules! cuda_module {
    ($name:literal) => {
        $crate::cuda::Module { name: $name, ptx: include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")) }
    };
}

/// One argument of a kernel.
pub enum Arg<'a> {
    /// Address of the first element of a contiguous tensor.
    Tensor(&'a Tensor),
    /// The same, or a null pointer.
    Optional(Option<&'a Tensor>),
    /// `int`.
    Int(usize),
    /// `long long`.
    Long(usize),
    /// `float`.
    Float(f32),
}

impl<'a> Arg<'a> {
    fn tensor(&self) -> Option<&'a Tensor> {
        match self {
            Self::Tensor(t) => Some(t),
            Self::Optional(t) => *t,
            _ => None,
        }
    }
}

impl<'a> From<&'a Tensor> for Arg<'a> {
    fn from(t: &'a Tensor) -> Self {
        Self::Tensor(t)
    }
}

impl<'a> From<Option<&'a Tensor>> for Arg<'a> {
    fn from(t: Option<&'a Tensor>) -> Self {
        Self::Optional(t)
    }
}

impl From<usize> for Arg<'_> {
    fn from(n: usize) -> Self {
        Self::Int(n)
    }
}

impl From<f32> for Arg<'_> {
    fn from(v: f32) -> Self {
        Self::Float(v)
    }
}

/// Arguments of [`launch`].
#[macro_export]
macro_rules! cuda_args {
    ($($arg:expr),* $(,)?) => { &[$($crate::cuda::Arg::from($arg)),*] };
}

/// How many threads a kernel runs on.
#[derive(Clone, Copy)]
pub struct Grid {
    /// Blocks.
    pub blocks: (usize, usize, usize),
    /// Threads of each.
    pub threads: usize,
    /// Bytes of dynamic shared memory of each.
    pub shared: usize,
}

impl Grid {
    /// One-dimensional, without shared memory of dynamic size.
    pub fn new(blocks: usize, threads: usize) -> Self {
        Self { blocks: (blocks, 1, 1), threads, shared: 0 }
    }

    /// One thread for each of `n` elements.
    pub fn for_each(n: usize) -> Self {
        Self::new(n.div_ceil(256), 256)
    }

    /// With `bytes` of shared memory.
    pub fn shared(self, bytes: usize) -> Self {
        Self { shared: bytes, ..self }
    }
}

/// A value as the driver takes it.
enum Value {
    Word(u64),
    Int(i32),
    Long(i64),
    Float(f32),
}

/// The device, which must be one that [`new_device`] made. Kernels are launched and memory is freed in the order of its
/// one stream; a device that tracks events may have others, among which nothing would keep this order.
pub fn own(device: &Device) -> Result<&CudaDevice> {
    let device = device.as_cuda_device()?;
    if device.cuda_stream().context().is_event_tracking() {
        bail!("the kernels need a CUDA device of selfpatch_nn::cuda::new_device; this one was made otherwise")
    }
    Ok(device)
}

/// Launches `name` of `module`. Nothing is launched for an empty grid. A device that is not [`own`], tensors that lie
/// elsewhere and tensors with gaps are errors.
///
/// # Safety
/// The arguments must be what the kernel declares, in number, kind and size, and no tensor that it writes
/// may be in use elsewhere.
pub unsafe fn launch(device: &Device, module: Module, name: &str, grid: Grid, args: &[Arg]) -> Result<()> {
    let of = device;
    let device = own(of)?;
    if let Some(t) = args.iter().filter_map(Arg::tensor).find(|t| !t.device().same_device(of)) {
        bail!("{name}: a tensor of {:?} was given to a kernel on {:?}", t.device().location(), of.location())
    }
    if grid.blocks.0 * grid.blocks.1 * grid.blocks.2 == 0 {
        return Ok(());
    }
    let int = |n: usize| i32::try_from(n).map_err(|_| candle_core::Error::Msg(format!("{name}: {n} is too large")));
    let values = args
        .iter()
        .map(|arg| {
            Ok(match arg {
                Arg::Tensor(t) | Arg::Optional(Some(t)) => Value::Word(address(t)?),
                Arg::Optional(None) => Value::Word(0),
                Arg::Int(n) => Value::Int(int(*n)?),
                Arg::Long(n) => Value::Long(*n as i64),
                Arg::Float(v) => Value::Float(*v),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let function = device.get_or_load_custom_func(name, module.name, module.ptx)?;
    if grid.shared > 48 * 1024 {
        let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(attribute, int(grid.shared)?).w()?;
    }
    let mut builder = function.builder();
    for value in &values {
        match value {
            Value::Word(v) => builder.arg(v),
            Value::Int(v) => builder.arg(v),
            Value::Long(v) => builder.arg(v),
            Value::Float(v) => builder.arg(v),
        };
    }
    let dim = |n: usize| int(n).map(|n| n as u32);
    let config = LaunchConfig {
        grid_dim: (dim(grid.blocks.0)?, dim(grid.blocks.1)?, dim(grid.blocks.2)?),
        block_dim: (dim(grid.threads)?, 1, 1),
        shared_mem_bytes: dim(grid.shared)?,
    };
    // SAFETY: the caller's promise; the addresses are those of tensors that outlive the launch, and memory
    // is freed in the order of the stream.
    unsafe { builder.launch(config) }.w()?;
    Ok(())
}

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

    const MODULE: Module = cuda_module!("scale");

    fn scaled(device: &Device, x: &Tensor, by: &Tensor) -> Result<()> {
        // SAFETY: the arguments of sp_scale; nobody else uses `x`.
        unsafe { launch(device, MODULE, "sp_scale_1", Grid::for_each(4), cuda_args![x, by, 1., Arg::Long(4)]) }
    }

    #[test]
    fn no_unwritten_memory_of_the_host() {
        assert!(uninitialised(3, DType::F32, &Device::Cpu).is_err());
    }

    #[test]
    fn a_device_that_tracks_events_is_refused() -> Result<()> {
        let Some(own) = cuda() else { return Ok(()) };
        for other in [Device::new_cuda(0)?, Device::new_cuda_with_stream(0)?] {
            let x = Tensor::ones(4, DType::F32, &other)?;
            let error = scaled(&other, &x, &x).map_err(|e| e.to_string());
            assert!(error.as_ref().is_err_and(|e| e.contains("cuda::new_device")), "{error:?}");
            assert!(uninitialised(3, DType::F32, &other).is_err());
        }
        let x = Tensor::ones(4, DType::F32, &own)?;
        scaled(&own, &x, &x.copy()?)
    }

    #[test]
    fn a_tensor_of_another_device_is_refused() -> Result<()> {
        let Some(device) = cuda() else { return Ok(()) };
        let x = Tensor::ones(4, DType::F32, &device)?;
        let others = [Tensor::ones(4, DType::F32, &Device::Cpu)?, Tensor::ones(4, DType::F32, &new_device(0)?)?];
        for other in &others {
            assert!(scaled(&device, &x, other).is_err() && scaled(&device, other, &x).is_err(), "{:?}", other.device());
        }
        Ok(())
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
