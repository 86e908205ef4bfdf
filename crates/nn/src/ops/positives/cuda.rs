//! Class attention over positives on CUDA, without a gradient; made of the parts of class attention.

use crate::ClassBlock;
use crate::ops::class_attention::cuda::Weighed;
use crate::ops::class_attention::kernels::Context;
use crate::ops::linear::cuda::residual;
use crate::ops::transformer::cuda::norm;
use crate::precision::compute_dtype;
use candle_core::{DType, Result, Tensor};

/// `x [T, D]`, `rows [T, k]`, `valid [T, k]` -> `[T, D]` f32. A row that does not exist leads to results that
/// are no numbers, since nothing is copied to the host to look at it.
pub(super) fn pool(
    x: &Tensor,
    rows: &Tensor,
    valid: Option<&Tensor>,
    cls: &Tensor,
    blocks: &[ClassBlock],
) -> Result<Tensor> {
    let dtype = compute_dtype(x);
    let x = x.to_dtype(DType::F32)?.contiguous()?;
    let rows = rows.to_dtype(DType::U32)?.contiguous()?;
    let valid = valid.map(|v| v.to_dtype(DType::F32)?.contiguous()).transpose()?;
    let context = Context::Rows(&rows, valid.as_ref());
    let (count, dim) = x.dims2()?;
    // One query for all patches, until they differ.
    let (mut c, mut branch) = (cls.detach().reshape((1, dim))?, None);
    for block in blocks {
        let weighed = Weighed::new(block, dtype)?;
        let queries = norm(&c, branch.as_ref(), &block.norm1, dtype)?;
        let projected = weighed.project(&norm(&x, None, &block.norm1, dtype)?, &queries)?;
        let (out, _) = projected.read(&context, count, false)?;
        let before = queries.x.broadcast_as((count, dim))?.contiguous()?;
        let (after, next) = weighed.fed(&before, &out)?;
        (c, branch) = (after, Some(next));
    }
    match &branch {
        Some(branch) => residual(&c, branch),
        None => Ok(c),
    }
}
