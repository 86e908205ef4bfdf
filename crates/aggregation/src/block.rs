//! Class attention: one query token reads a context; only the query is updated (CaiT's class
//! attention, without LayerScale; QUIRKS 5).

use candle_core::{D, Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::ops::softmax;
use selfpatch_matching::Positives;
use selfpatch_nn::{LayerNorm, Linear, Mlp};

/// `c += attn(norm1(c), norm1([c; context]))`, then `c += mlp(norm2(c))`.
#[derive(Clone, Debug)]
pub(crate) struct ClassBlock {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    proj: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
    heads: usize,
}

impl ClassBlock {
    pub(crate) fn new(dim: usize, heads: usize, mlp_ratio: usize, eps: f64, vb: VarBuilder) -> Result<Self> {
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

    /// Whole image: `cls [B, 1, D]` reads `x [B, N, D]` -> (`[B, 1, D]`, probabilities `[B, heads, 1, 1 + N]`).
    pub(crate) fn over_image(&self, cls: &Tensor, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (b, n, d) = x.dims3()?;
        let u = self.norm1.forward(&Tensor::cat(&[cls, x], 1)?)?;
        let head = d / self.heads;
        let split = |t: Tensor, n: usize| t.reshape((b, n, self.heads, head))?.transpose(1, 2)?.contiguous();
        let q = split(self.q.forward(&u.narrow(1, 0, 1)?)?, 1)?;
        let k = split(self.k.forward(&u)?, 1 + n)?;
        let v = split(self.v.forward(&u)?, 1 + n)?;
        let scores = (q * (head as f64).powf(-0.5))?.matmul(&k.t()?)?;
        let probs = softmax(&scores, D::Minus1)?;
        let read = probs.matmul(&v)?.transpose(1, 2)?.reshape((b, 1, d))?;
        Ok((self.update(cls, &read)?, probs))
    }

    /// Every patch at once: `cls [B*N, 1, D]` (or `[1, 1, D]`, the same for all) reads the positives
    /// of its patch among `x [B, N, D]` -> `[B*N, 1, D]`.
    ///
    /// Keys and values depend on a token alone, so each token is projected once and gathered
    /// afterwards; the reference projects every gathered copy.
    pub(crate) fn over_positives(&self, cls: &Tensor, x: &Tensor, positives: &Positives) -> Result<Tensor> {
        let (b, n, d) = x.dims3()?;
        let k = positives.ids.dim(2)?;
        let (heads, head) = (self.heads, d / self.heads);
        let rows = positives.rows()?;

        let (u_x, u_c) = (self.norm1.forward(x)?, self.norm1.forward(cls)?);
        let own = |t: Tensor| t.broadcast_as((b * n, 1, d));
        let gather = |t: Tensor| t.reshape((b * n, d))?.index_select(&rows, 0)?.reshape((b * n, k, d));
        let with_own = |layer: &Linear| -> Result<Tensor> {
            let both = Tensor::cat(&[&own(layer.forward(&u_c)?)?, &gather(layer.forward(&u_x)?)?], 1)?;
            both.reshape((b * n, 1 + k, heads, head))
        };
        let q = (self.q.forward(&u_c)? * (head as f64).powf(-0.5))?;
        let q = own(q)?.reshape((b * n, 1, heads, head))?;
        let mut scores = with_own(&self.k)?.broadcast_mul(&q)?.sum(D::Minus1)?; // [B*N, 1 + k, heads]
        if let Some(valid) = &positives.valid {
            let ones = Tensor::ones((n, 1), valid.dtype(), valid.device())?;
            let valid = Tensor::cat(&[&ones, valid], 1)?.reshape((1, n, 1 + k, 1))?;
            let penalty = ((valid - 1.0)? * 1e30)?; // a missing neighbour gets probability 0
            scores = scores.reshape((b, n, 1 + k, heads))?.broadcast_add(&penalty)?.reshape((b * n, 1 + k, heads))?;
        }
        let probs = softmax(&scores, 1)?.unsqueeze(D::Minus1)?;
        let read = with_own(&self.v)?.broadcast_mul(&probs)?.sum(1)?.reshape((b * n, 1, d))?;
        self.update(&own(cls.clone())?, &read)
    }

    fn update(&self, cls: &Tensor, read: &Tensor) -> Result<Tensor> {
        let cls = (cls + self.proj.forward(read)?)?;
        &cls + self.mlp.forward(&self.norm2.forward(&cls)?)?
    }
}
