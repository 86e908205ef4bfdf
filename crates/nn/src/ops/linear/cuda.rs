//! Kernels around the products of linear layers on CUDA; see `linear.cu`.

use crate::cuda::{Arg, Grid, Module, launch, matmul, record, run, suffix, t, uninitialised};
use crate::ops::layer_norm::branch::Branch;
use crate::precision::compute_dtype;
use crate::{cuda_module, deposit_tensor};
use candle_core::{DType, Result, Tensor, bail};

const MODULE: Module = cuda_module!("linear");

/// `y += bias` in every row of `y [T, D]`, in place.
pub(in crate::ops) fn add_bias(y: &Tensor, bias: &Tensor) -> Result<()> {
    let dim = bias.elem_count();
    let args = &[Arg::Tensor(y), Arg::Tensor(bias), Arg::Long(y.elem_count()), Arg::Int(dim)];
    each("add_bias", y.dtype(), dim, &[y], args)
}

/// `x W^T + b` of rows `x [R, I]` that are data, so that no gradient leads to them: `[R, O]` f32. The gradient of the
/// weight, which may have been made from a parameter, goes on from there.
pub(super) fn of_data(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let dtype = compute_dtype(x);
    let rows = x.to_dtype(dtype)?.contiguous()?;
    let out = matmul(&rows, t(&weight.detach().to_dtype(dtype)?.contiguous()?), DType::F32)?;
    add_bias(&out, bias)?;
    let of = bias.clone();
    record(weight, bias, out, move |dy| {
        deposit_tensor(&of, || column_sums(dy))?;
        matmul(t(&dy.to_dtype(dtype)?), &rows, DType::F32).map(Some)
    })
}

/// `x + branch`, `x [T, D]` f32.
pub(in crate::ops) fn residual(x: &Tensor, branch: &Branch) -> Result<Tensor> {
    let dim = x.dim(1)?;
    let out = uninitialised(x.shape(), DType::F32, x.device())?;
    let args = &[
        Arg::Tensor(x),
        Arg::Tensor(&branch.values),
        Arg::Optional(branch.bias.as_ref()),
        Arg::Optional(branch.scale.as_ref()),
        Arg::Tensor(&out),
        Arg::Long(x.elem_count()),
        Arg::Int(dim),
    ];
    each("residual", branch.values.dtype(), dim, &[x, &branch.values, &out], args)?;
    Ok(out)
}

/// The gradient of a branch's values, given that of the residual stream, `d [T, D]` f32.
pub(in crate::ops) fn branch_gradient(d: &Tensor, scale: Option<&Tensor>, dtype: DType) -> Result<Tensor> {
    let dim = d.dim(1)?;
    let out = uninitialised(d.shape(), dtype, d.device())?;
    let args = &[Arg::Tensor(d), Arg::Optional(scale), Arg::Tensor(&out), Arg::Long(d.elem_count()), Arg::Int(dim)];
    each("branch_gradient", dtype, dim, &[d, &out], args)?;
    Ok(out)
}

/// Sums of the columns of `x [T, D]`, in f32 and in a fixed order: `[D]`.
pub(in crate::ops) fn column_sums(x: &Tensor) -> Result<Tensor> {
    crate::ops::sum_rows(&x.detach())?.flatten_all()
}

/// Launches one thread for each run of elements of `tensors`, which have one shape and are read and written in runs.
fn each(what: &str, dtype: DType, dim: usize, tensors: &[&Tensor], args: &[Arg]) -> Result<()> {
    let Some(like) = tensors.first() else { bail!("a kernel without tensors") };
    let run = run(dim, 4, tensors)?;
    let name = format!("sp_{what}_{}_{run}", suffix(dtype)?);
    // SAFETY: the callers name a kernel of `linear.cu` with its arguments.
    unsafe { launch(like.device(), MODULE, &name, Grid::for_each(like.elem_count().div_ceil(run)), args) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::normal;
    use crate::testing::{at_odd_address, cuda};

    #[test]
    fn a_tensor_inside_of_another_gives_the_same() -> Result<()> {
        let Some(device) = cuda() else { return Ok(()) };
        let x = normal(1, (3, 16))?.to_device(&device)?;
        let of = |x: &Tensor, values: &Tensor| -> Result<_> {
            let branch = Branch { values: values.clone(), bias: None, scale: None };
            let biased = x.force_contiguous()?;
            let biased = if x.layout().start_offset() == 0 { biased } else { at_odd_address(&biased)? };
            add_bias(&biased, &normal(2, 16)?.to_device(&device)?)?;
            let values = [biased, residual(x, &branch)?, branch_gradient(x, None, DType::F32)?];
            values.iter().map(|t| t.to_vec2::<f32>()).collect::<Result<Vec<_>>>()
        };
        let odd = at_odd_address(&x)?;
        assert_eq!(of(&odd, &x)?, of(&x, &x)?);
        assert_eq!(of(&x, &odd)?, of(&x, &x)?);
        Ok(())
    }
}
