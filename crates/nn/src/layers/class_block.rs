//! One class-attention block (CaiT's, without LayerScale; QUIRKS 5).

use super::{LayerNorm, Linear, Mlp};
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

/// `c += attn(norm1(c), norm1([c; context]))`, then `c += mlp(norm2(c))`, for a query token `c`;
/// computed by [`ops::class_attention`](crate::ops::class_attention) and
/// [`ops::pool_positives`](crate::ops::pool_positives).
#[derive(Clone, Debug)]
pub struct ClassBlock {
    /// Norm before the attention, of the query and of its context.
    pub norm1: LayerNorm,
    /// Projection to the query of the query token.
    pub q: Linear,
    /// Projection to the keys of query token and context.
    pub k: Linear,
    /// Projection to the values of query token and context.
    pub v: Linear,
    /// Projection after the heads.
    pub proj: Linear,
    /// Norm before the feed-forward half.
    pub norm2: LayerNorm,
    /// The feed-forward half.
    pub mlp: Mlp,
    /// Attention heads.
    pub heads: usize,
}

impl ClassBlock {
    /// All parameters of the block.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        let linears = [&self.q, &self.k, &self.v, &self.proj, &self.mlp.fc1, &self.mlp.fc2];
        let norms = [&self.norm1, &self.norm2].into_iter().flat_map(LayerNorm::parameters);
        norms.chain(linears.into_iter().flat_map(Linear::parameters))
    }

    /// A block with the parameters `norm1`, `attn.q`, `attn.k`, `attn.v`, `attn.proj`, `norm2`, `mlp`.
    pub fn new(dim: usize, heads: usize, mlp_ratio: usize, eps: f64, vb: VarBuilder) -> Result<Self> {
        let attn = vb.pp("attn");
        Ok(Self {
            norm1: LayerNorm::new(dim, eps, vb.pp("norm1"))?,
            q: Linear::new(dim, dim, attn.pp("q"))?,
            k: Linear::new(dim, dim, attn.pp("k"))?,
            v: Linear::new(dim, dim, attn.pp("v"))?,
            proj: Linear::new(dim, dim, attn.pp("proj"))?,
            norm2: LayerNorm::new(dim, eps, vb.pp("norm2"))?,
            mlp: Mlp::new(dim, mlp_ratio * dim, vb.pp("mlp"))?,
            heads,
        })
    }
}
