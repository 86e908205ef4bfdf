//! Weight normalisation: each row of `v` is scaled to length `g`: `w_r = g_r v_r / |v_r|`. The fused path
//! is part of [`prototypes`](super::prototypes).

use candle_core::{Result, Tensor};

/// Normalised weights: `v [O, I]`, `g [O, 1]` -> `[O, I]` (torch's `weight_norm` with `dim = 0`).
pub fn reference(v: &Tensor, g: &Tensor) -> Result<Tensor> {
    v.broadcast_mul(&(g / v.sqr()?.sum_keepdim(1)?.sqrt()?)?)
}
