//! A residual branch whose sum is left to the op that follows.

use candle_core::Tensor;

/// A branch that is still to be added to the residual stream: `scale (values + bias)`.
pub(in crate::ops) struct Branch {
    /// Values of the branch, `[T, D]`, in the type of computation.
    pub values: Tensor,
    /// Bias of the branch, `[D]`.
    pub bias: Option<Tensor>,
    /// Scale of each row, `[T]`; `None` for 1.
    pub scale: Option<Tensor>,
}
