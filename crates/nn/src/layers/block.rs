//! One pre-norm transformer block.

use super::{LayerNorm, Linear, Mlp};
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

/// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`; computed by [`ops::transformer`](crate::ops::transformer).
#[derive(Clone, Debug)]
pub struct Block {
    /// Norm before the attention.
    pub norm1: LayerNorm,
    /// Projection `D -> 3 D` to queries, keys and values.
    pub qkv: Linear,
    /// Projection `D -> D` after the heads.
    pub proj: Linear,
    /// Norm before the feed-forward half.
    pub norm2: LayerNorm,
    /// The feed-forward half, `D -> hidden -> D`.
    pub mlp: Mlp,
    /// Attention heads.
    pub heads: usize,
}

impl Block {
    /// All parameters of the block.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        let norms = [&self.norm1, &self.norm2].into_iter().flat_map(LayerNorm::parameters);
        norms.chain([&self.qkv, &self.proj, &self.mlp.fc1, &self.mlp.fc2].into_iter().flat_map(Linear::parameters))
    }

    /// A block with the parameters `norm1`, `attn.qkv`, `attn.proj`, `norm2`, `mlp`.
    pub fn new(dim: usize, heads: usize, hidden: usize, qkv_bias: bool, eps: f64, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            norm1: LayerNorm::new(dim, eps, vb.pp("norm1"))?,
            qkv: Linear::with_bias(dim, 3 * dim, qkv_bias, vb.pp("attn.qkv"))?,
            proj: Linear::new(dim, dim, vb.pp("attn.proj"))?,
            norm2: LayerNorm::new(dim, eps, vb.pp("norm2"))?,
            mlp: Mlp::new(dim, hidden, vb.pp("mlp"))?,
            heads,
        })
    }
}
