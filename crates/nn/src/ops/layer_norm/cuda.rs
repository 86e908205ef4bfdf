//! Layer norm on CUDA; see `layer_norm.cu`.

use super::branch::Branch;
use crate::cuda::{Grid, Module, launch, record, run, suffix, uninitialised};
use crate::ops::linear::cuda::column_sums;
use crate::{cuda_args, cuda_module, deposit_tensor};
use candle_core::{DType, Result, Tensor};

const MODULE: Module = cuda_module!("layer_norm");
/// Rows of a block: one per warp.
const WARPS: usize = 4;
/// Shared memory that every device has.
const SHARED: usize = 64 * 1024;

/// A norm's output.
pub(in crate::ops) struct Normed {
    /// What was normalised, `[T, D]` f32.
    pub x: Tensor,
    /// Normalised rows, `[T, D]`, in the type asked for.
    pub out: Tensor,
    /// Means, then inverse standard deviations, `[2, T]`.
    pub stats: Tensor,
}

/// Whether rows of `dim` elements fit into shared memory.
pub(in crate::ops) fn fits(dim: usize) -> bool {
    2 * WARPS * dim * 4 <= SHARED && dim > 0
}

/// Adds `branch` to `x [T, D]` (f32) and normalises the sum.
pub(in crate::ops) fn forward(
    x: &Tensor,
    branch: Option<&Branch>,
    (weight, shift): (&Tensor, &Tensor),
    eps: f64,
    dtype: DType,
) -> Result<Normed> {
    let (rows, dim) = x.dims2()?;
    let out = uninitialised((rows, dim), dtype, x.device())?;
    let stats = uninitialised((2, rows), DType::F32, x.device())?;
    let y = branch.map(|_| uninitialised((rows, dim), DType::F32, x.device())).transpose()?;
    let (values, bias, scale) = match branch {
        Some(b) => (Some(&b.values), b.bias.as_ref(), b.scale.as_ref()),
        None => (None, None, None),
    };
    let grid = Grid::new(rows.div_ceil(WARPS), 32 * WARPS).shared(WARPS * dim * 4);
    let args = cuda_args![x, values, bias, scale, weight, shift, y.as_ref(), &out, &stats, rows, dim, eps as f32];
    let name = name("forward", dtype, dim, &[Some(x), values, y.as_ref(), Some(&out)])?;
    // SAFETY: the arguments of sp_norm_forward; all tensors have the sizes that it is told.
    unsafe { launch(x.device(), MODULE, &name, grid, args)? };
    Ok(Normed { x: y.unwrap_or_else(|| x.clone()), out, stats })
}

/// Adds the gradient of the norm's input to `dx [T, D]` (f32, in place); returns the gradients of weight and shift,
/// `[D]` each. `next` becomes the gradient of the branch before, whose rows are scaled by `scale`.
pub(in crate::ops) fn backward(
    dout: &Tensor,
    (x, stats): (&Tensor, &Tensor),
    weight: &Tensor,
    dx: &Tensor,
    (scale, next): (Option<&Tensor>, Option<&Tensor>),
) -> Result<(Tensor, Tensor)> {
    let (rows, dim) = x.dims2()?;
    let blocks = rows.div_ceil(WARPS).min(512);
    let partial = uninitialised((blocks, 2 * dim), DType::F32, x.device())?;
    let grid = Grid::new(blocks, 32 * WARPS).shared(2 * WARPS * dim * 4);
    let args = cuda_args![dout, x, stats, weight, dx, scale, next, &partial, rows, dim];
    let name = name("backward", dout.dtype(), dim, &[Some(dout), Some(x), Some(dx), next])?;
    // SAFETY: the arguments of sp_norm_backward; all tensors have the sizes that it is told.
    unsafe { launch(x.device(), MODULE, &name, grid, args)? };
    let sums = column_sums(&partial)?;
    Ok((sums.narrow(0, 0, dim)?, sums.narrow(0, dim, dim)?))
}

/// Layer norm as a node of the graph: `x [.., D]` -> `[.., D]` f32.
pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let dim = weight.elem_count();
    let rows = x.detach().to_dtype(DType::F32)?.contiguous()?.reshape(((), dim))?;
    let normed = forward(&rows, None, (weight, bias), eps, DType::F32)?;
    let out = normed.out.reshape(x.shape())?;
    let (x_like, anchor) = (x.clone(), if weight.track_op() { weight } else { bias });
    let (weight, bias, stats) = (weight.clone(), bias.clone(), normed.stats);
    record(x, anchor, out, move |dy| {
        let dx = Tensor::zeros(rows.shape(), DType::F32, rows.device())?;
        let (dw, db) = backward(&dy.reshape(rows.shape())?, (&rows, &stats), &weight, &dx, (None, None))?;
        deposit_tensor(&weight, || Ok(dw))?;
        deposit_tensor(&bias, || Ok(db))?;
        x_like.track_op().then(|| dx.reshape(x_like.shape())?.to_dtype(x_like.dtype())).transpose()
    })
}

/// Name of the kernel for rows of `dim` elements of these tensors.
fn name(what: &str, dtype: DType, dim: usize, tensors: &[Option<&Tensor>]) -> Result<String> {
    let tensors: Vec<&Tensor> = tensors.iter().copied().flatten().collect();
    Ok(format!("sp_norm_{what}_{}_{}", suffix(dtype)?, run(dim, 4, &tensors)?))
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
        let (weight, shift) = (normal(2, 16)?.to_device(&device)?, normal(3, 16)?.to_device(&device)?);
        let of = |x: &Tensor| -> Result<_> {
            let branch = Branch { values: at_odd_address(x)?, bias: None, scale: None };
            let normed = forward(x, Some(&branch), (&weight, &shift), 1e-6, DType::F32)?;
            let dx = Tensor::zeros(x.shape(), DType::F32, x.device())?;
            let (dw, _) = backward(x, (x, &normed.stats), &weight, &dx, (None, None))?;
            Ok([normed.out.to_vec2::<f32>()?, dx.to_vec2::<f32>()?, dw.reshape((1, 16))?.to_vec2::<f32>()?])
        };
        let (got, want) = (of(&at_odd_address(&x)?)?, of(&x)?);
        let close = |a: &f32, b: &f32| (a - b).abs() <= 1e-5 * b.abs().max(1.); // sums of other groups
        assert!(got.iter().flatten().flatten().zip(want.iter().flatten().flatten()).all(|(a, b)| close(a, b)));
        Ok(())
    }
}
