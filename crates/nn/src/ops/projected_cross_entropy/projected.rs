//! Rows before the prototypes.

use crate::ops::prototypes::prototypes;
use candle_core::{Result, Tensor};

/// Rows and the weight-normed prototypes that they are to be multiplied with.
#[derive(Clone, Debug)]
pub struct Projected {
    /// Rows of unit length, `[R, D]`.
    pub rows: Tensor,
    /// Directions of the prototypes, `[K, D]`.
    pub weight_v: Tensor,
    /// Lengths of the prototypes, `[K, 1]`.
    pub weight_g: Tensor,
}

impl Projected {
    /// The logits, `[R, K]`.
    pub fn logits(&self) -> Result<Tensor> {
        prototypes(&self.rows, &self.weight_v, &self.weight_g)
    }
}
