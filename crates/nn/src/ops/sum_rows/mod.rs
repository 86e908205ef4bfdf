//! The sum of all rows of a matrix.

#[cfg(feature = "cuda")]
mod cuda;

use crate::precision::to_full;
use candle_core::{Result, Tensor};

/// Sum of the rows: `x [R, K]` -> `[1, K]`, in single precision at least.
pub fn sum_rows(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if crate::cuda::fusible(x) && !x.track_op() && x.elem_count() > 0 {
        return cuda::sum_rows(x);
    }
    reference(x)
}

/// Sum of rows from candle's own ops, with a gradient.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    to_full(x)?.sum_keepdim(0)
}
