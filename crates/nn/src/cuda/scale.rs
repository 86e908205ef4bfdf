//! Scaling by a number that only the device knows.

use super::launch::{Arg, Grid, Module, launch};
use super::run::run;
use crate::{cuda_args, cuda_module};
use candle_core::{Result, Tensor};

const SCALE: Module = cuda_module!("scale");

/// `x = factor scalar x` in place; f32. Nothing else may use `x`.
pub(crate) fn scale(x: &Tensor, scalar: &Tensor, factor: f32) -> Result<()> {
    let count = x.elem_count();
    let v = run(count, 4, &[x])?;
    let args = cuda_args![x, scalar, factor, Arg::Long(count)];
    // SAFETY: the arguments are those of the kernel; the caller's `x` is in use nowhere else.
    unsafe { launch(x.device(), SCALE, &format!("sp_scale_{v}"), Grid::for_each(count / v), args) }
}
