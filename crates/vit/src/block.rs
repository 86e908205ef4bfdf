//! One pre-norm transformer block.

use crate::VitConfig;
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use rand_chacha::ChaCha8Rng;
use selfpatch_nn::{LayerNorm, Linear, Mlp, drop_path, ops};

/// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
    heads: usize,
}

impl Block {
    pub(crate) fn new(config: &VitConfig, vb: VarBuilder) -> Result<Self> {
        let dim = config.embed_dim;
        Ok(Self {
            norm1: LayerNorm::new(dim, config.norm_eps, vb.pp("norm1"))?,
            qkv: Linear::with_bias(dim, 3 * dim, config.qkv_bias, vb.pp("attn.qkv"))?,
            proj: Linear::new(dim, dim, vb.pp("attn.proj"))?,
            norm2: LayerNorm::new(dim, config.norm_eps, vb.pp("norm2"))?,
            mlp: Mlp::new(dim, config.mlp_ratio * dim, vb.pp("mlp"))?,
            heads: config.num_heads,
        })
    }

    /// `[B, N, D] -> [B, N, D]`; with `drop`, each residual branch is kept per sample as drawn.
    pub(crate) fn forward(&self, x: &Tensor, drop: Option<(f64, &mut ChaCha8Rng)>) -> Result<Tensor> {
        let attended = |x: &Tensor| self.proj.forward(&ops::attention(&self.projections(x)?, self.heads)?);
        match drop {
            Some((rate, rng)) if rate > 0. => {
                let mut survive = |branch: Tensor| {
                    use rand::Rng;
                    let u: Vec<f32> = (0..x.dims()[0]).map(|_| rng.random()).collect();
                    drop_path(&branch, rate, &u)
                };
                let x = (x + survive(attended(x)?)?)?;
                &x + survive(self.mlp.forward(&self.norm2.forward(&x)?)?)?
            }
            _ => {
                let x = (x + attended(x)?)?;
                &x + self.mlp.forward(&self.norm2.forward(&x)?)?
            }
        }
    }

    /// Attention probabilities `[B, heads, N, N]` of this block for its input `x`.
    pub(crate) fn attention(&self, x: &Tensor) -> Result<Tensor> {
        ops::attention_probs(&self.projections(x)?, self.heads)
    }

    fn projections(&self, x: &Tensor) -> Result<Tensor> {
        self.qkv.forward(&self.norm1.forward(x)?)
    }
}
