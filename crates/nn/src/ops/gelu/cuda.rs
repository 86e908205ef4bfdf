//! GELU on CUDA; see `gelu.cu`.

use crate::cuda::{Arg, Grid, Module, launch, record, run, suffix, uninitialised};
use crate::cuda_module;
use candle_core::{D, DType, Result, Tensor, bail};

const MODULE: Module = cuda_module!("gelu");

/// `gelu(x + bias)`, `x [.., D]`.
pub(in crate::ops) fn forward(x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let out = uninitialised(x.shape(), x.dtype(), x.device())?;
    let (name, grid, dim) = plan("forward", &[x, &out])?;
    let args = &[Arg::Tensor(x), Arg::Optional(bias), Arg::Tensor(&out), Arg::Long(x.elem_count()), Arg::Int(dim)];
    // SAFETY: the arguments of sp_gelu_forward.
    unsafe { launch(x.device(), MODULE, &name, grid, args)? };
    Ok(out)
}

/// Gradient of `x` through `gelu(x + bias)`.
pub(in crate::ops) fn backward(x: &Tensor, bias: Option<&Tensor>, dout: &Tensor) -> Result<Tensor> {
    let dx = uninitialised(x.shape(), x.dtype(), x.device())?;
    let (name, grid, dim) = plan("backward", &[x, dout, &dx])?;
    let args = &[
        Arg::Tensor(x),
        Arg::Optional(bias),
        Arg::Tensor(dout),
        Arg::Tensor(&dx),
        Arg::Long(x.elem_count()),
        Arg::Int(dim),
    ];
    // SAFETY: the arguments of sp_gelu_backward.
    unsafe { launch(x.device(), MODULE, &name, grid, args)? };
    Ok(dx)
}

/// GELU as a node of the graph.
pub(super) fn gelu(x: &Tensor) -> Result<Tensor> {
    let input = x.detach().contiguous()?;
    let out = forward(&input, None)?;
    record(x, x, out, move |dy| backward(&input, None, dy).map(Some))
}

/// Name and grid of the kernel for tensors of one shape and type, and the length of their rows.
fn plan(what: &str, tensors: &[&Tensor]) -> Result<(String, Grid, usize)> {
    let Some(x) = tensors.first() else { bail!("a kernel without tensors") };
    let dim = x.dim(D::Minus1)?;
    let run = run(dim, if x.dtype() == DType::F32 { 4 } else { 8 }, tensors)?;
    let name = format!("sp_gelu_{what}_{}_{run}", suffix(x.dtype())?);
    Ok((name, Grid::for_each(x.elem_count().div_ceil(run)), dim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::normal;
    use crate::testing::{at_odd_address, cuda};
    use candle_core::Device;

    #[test]
    fn a_tensor_inside_of_another_gives_the_same() -> Result<()> {
        let Some(device) = cuda() else { return Ok(()) };
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let x = normal(1, (3, 16))?.to_device(&device)?.to_dtype(dtype)?;
            let odd = at_odd_address(&x)?;
            let values = |t: Tensor| t.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2::<f32>();
            assert_eq!(values(forward(&odd, None)?)?, values(forward(&x, None)?)?);
            assert_eq!(values(backward(&x, None, &odd)?)?, values(backward(&x, None, &x)?)?);
        }
        Ok(())
    }
}
