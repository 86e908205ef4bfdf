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
pub(crate) use run::run;
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

/// Launches `name` of `module`. Tensors must be contiguous and lie on `device`. Nothing is launched for
/// an empty grid.
///
/// # Safety
/// The arguments must be what the kernel declares, in number, kind and size, and no tensor that it writes
/// may be in use elsewhere.
pub unsafe fn launch(device: &Device, module: Module, name: &str, grid: Grid, args: &[Arg]) -> Result<()> {
    if grid.blocks.0 * grid.blocks.1 * grid.blocks.2 == 0 {
        return Ok(());
    }
    let device = device.as_cuda_device()?;
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

/// A tensor whose elements are not written yet.
pub fn uninitialised(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    // SAFETY: numbers of any bits are values; every caller writes all of them.
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
