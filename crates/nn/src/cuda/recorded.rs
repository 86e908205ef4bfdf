//! Results of kernels as nodes of candle's graph.

use candle_core::{CpuStorage, CudaStorage, CustomOp2, InplaceOp1, Layout, Result, Shape, Tensor, bail};
use std::sync::Mutex;

/// Function from the gradient of a result to that of its input; deposits the gradients of parameters.
type Backward = Box<dyn FnOnce(&Tensor) -> Result<Option<Tensor>> + Send>;

/// `output`, which kernels made of `x` and of parameters, as a function of them. `parameter` is any trained
/// one of these ([`anchor`](crate::ops)). `backward` is given the gradient of the output, contiguous and of the
/// output's type; it returns that of `x` (`None` if `x` has none) and deposits those of the parameters.
pub fn record(
    x: &Tensor,
    parameter: &Tensor,
    output: Tensor,
    backward: impl FnOnce(&Tensor) -> Result<Option<Tensor>> + Send + 'static,
) -> Result<Tensor> {
    if !x.track_op() && !parameter.track_op() {
        return Ok(output);
    }
    let shape = output.shape().clone();
    let op =
        Recorded { output: Mutex::new(Some((take(output)?, shape))), backward: Mutex::new(Some(Box::new(backward))) };
    x.apply_op2(parameter, op)
}

struct Recorded {
    output: Mutex<Option<(CudaStorage, Shape)>>,
    backward: Mutex<Option<Backward>>,
}

impl CustomOp2 for Recorded {
    fn name(&self) -> &'static str {
        "fused"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("a result of CUDA kernels cannot be recorded on the CPU")
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        match self.output.lock().ok().and_then(|mut output| output.take()) {
            Some(output) => Ok(output),
            None => bail!("a fused op was recorded twice"),
        }
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        match self.backward.lock().ok().and_then(|mut backward| backward.take()) {
            Some(backward) => Ok((backward(&dy.to_dtype(y.dtype())?.contiguous()?)?, None)),
            None => bail!("the backward pass of a fused op can run only once per forward pass"),
        }
    }
}

/// The storage of a tensor that nobody else holds, without a copy.
fn take(output: Tensor) -> Result<CudaStorage> {
    struct Take(Mutex<Option<CudaStorage>>);

    impl InplaceOp1 for Take {
        fn name(&self) -> &'static str {
            "take"
        }

        fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
            bail!("a result of CUDA kernels lies on the CPU")
        }

        fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
            if layout.start_offset() != 0 || !layout.is_contiguous() {
                bail!("a result of kernels must be contiguous")
            }
            let device = storage.device.clone();
            // SAFETY: one element that nobody reads.
            let left = CudaStorage::wrap_cuda_slice(unsafe { device.alloc::<u8>(1)? }, device);
            if let Ok(mut slot) = self.0.lock() {
                *slot = Some(std::mem::replace(storage, left));
            }
            Ok(())
        }
    }

    let take = Take(Mutex::new(None));
    output.inplace_op1(&take)?;
    match take.0.into_inner() {
        Ok(Some(storage)) => Ok(storage),
        _ => bail!("the result of a kernel was lost"),
    }
}
