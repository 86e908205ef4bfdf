//! The type in which products of matrices are computed.

use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};
use std::cell::Cell;

/// The type that linear layers, attention and heads compute in. Parameters and their gradients, the
/// residual stream, norms, softmax, losses and all sums stay in f32, as under PyTorch's autocast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    F32,
    /// bfloat16: the range of f32 with 8 significant bits.
    Bf16,
    /// IEEE half precision: 11 bits, a small range; its gradients need a scaled loss.
    #[serde(rename = "fp16")]
    F16,
}

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Runs `f`, whose ops compute in `precision`. A backward pass goes on in the precision of its forward
/// pass, wherever it is run. Holds for this thread and until `f` returns, like PyTorch's `autocast`.
pub fn autocast<R>(precision: Precision, f: impl FnOnce() -> R) -> R {
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(precision));
    f()
}

impl Precision {
    /// The precision of the running [`autocast`]; F32 outside of one.
    pub fn current() -> Self {
        CURRENT.get()
    }

    /// The type of numbers that products are computed in.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

/// The type in which a product of `x` is computed: f64 stays, everything else follows [`autocast`].
pub(crate) fn compute_dtype(x: &Tensor) -> DType {
    match x.dtype() {
        DType::F64 => DType::F64,
        _ => Precision::current().dtype(),
    }
}

/// `x` with at least single precision: half types become f32.
pub(crate) fn to_full(x: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::BF16 | DType::F16 => x.to_dtype(DType::F32),
        _ => Ok(x.clone()),
    }
}
