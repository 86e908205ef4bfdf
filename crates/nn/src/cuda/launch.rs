//! Kernels and what they are launched with.

use super::device::own;
use super::tensors::address;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute;
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::{Device, Result, Tensor, bail};

/// The kernels of one `.cu` file.
#[derive(Clone, Copy)]
pub struct Module {
    /// Name of the file, which is the module's.
    pub name: &'static str,
    /// PTX of the kernels.
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
    /// Address of the first element, or a null pointer.
    Optional(Option<&'a Tensor>),
    /// A number passed as `int`.
    Int(usize),
    /// A number passed as `long long`.
    Long(usize),
    /// A number passed as `float`.
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
    /// Number of blocks in each dimension.
    pub blocks: (usize, usize, usize),
    /// Threads of each block.
    pub threads: usize,
    /// Bytes of dynamic shared memory of each block.
    pub shared: usize,
}

impl Grid {
    /// A one-dimensional grid without shared memory of dynamic size.
    pub fn new(blocks: usize, threads: usize) -> Self {
        Self { blocks: (blocks, 1, 1), threads, shared: 0 }
    }

    /// A grid with one thread for each of `n` elements.
    pub fn for_each(n: usize) -> Self {
        Self::new(n.div_ceil(256), 256)
    }

    /// The grid with `bytes` of dynamic shared memory for each block.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::{new_device, uninitialised};
    use crate::testing::cuda;
    use candle_core::DType;

    const MODULE: Module = cuda_module!("scale");

    fn scaled(device: &Device, x: &Tensor, by: &Tensor) -> Result<()> {
        // SAFETY: the arguments of sp_scale; nobody else uses `x`.
        unsafe { launch(device, MODULE, "sp_scale_1", Grid::for_each(4), cuda_args![x, by, 1., Arg::Long(4)]) }
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
}
