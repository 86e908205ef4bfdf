//! GELU on CUDA; see `gelu.cu`.

use crate::cuda::{Arg, Grid, Module, launch, record, suffix, uninitialised};
use crate::cuda_module;
use candle_core::{D, DType, Result, Tensor};

const MODULE: Module = cuda_module!("gelu");

/// `gelu(x + bias)`, `x [.., D]`.
pub(in crate::ops) fn forward(x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let out = uninitialised(x.shape(), x.dtype(), x.device())?;
    let (name, grid, dim) = plan("forward", x)?;
    let args = &[Arg::Tensor(x), Arg::Optional(bias), Arg::Tensor(&out), Arg::Long(x.elem_count()), Arg::Int(dim)];
    // SAFETY: the arguments of sp_gelu_forward.
    unsafe { launch(x.device(), MODULE, &name, grid, args)? };
    Ok(out)
}

/// The gradient of `x`.
pub(in crate::ops) fn backward(x: &Tensor, bias: Option<&Tensor>, dout: &Tensor) -> Result<Tensor> {
    let dx = uninitialised(x.shape(), x.dtype(), x.device())?;
    let (name, grid, dim) = plan("backward", x)?;
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

/// The op as a node of the graph.
pub(super) fn gelu(x: &Tensor) -> Result<Tensor> {
    let input = x.detach().contiguous()?;
    let out = forward(&input, None)?;
    record(x, x, out, move |dy| backward(&input, None, dy).map(Some))
}

fn plan(what: &str, x: &Tensor) -> Result<(String, Grid, usize)> {
    let dim = x.dim(D::Minus1)?;
    let run = match (x.dtype(), dim) {
        (DType::F32, n) if n.is_multiple_of(4) => 4,
        (DType::BF16 | DType::F16, n) if n.is_multiple_of(8) => 8,
        _ => 1,
    };
    let name = format!("sp_gelu_{what}_{}_{run}", suffix(x.dtype())?);
    Ok((name, Grid::for_each(x.elem_count().div_ceil(run)), dim))
}
