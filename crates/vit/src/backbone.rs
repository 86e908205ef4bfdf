//! The backbone: pixels to tokens.

use crate::block::Block;
use crate::{VitConfig, position};
use candle_core::{D, Result, Tensor, bail};
use candle_nn::VarBuilder;
use rand_chacha::ChaCha8Rng;
use selfpatch_nn::{LayerNorm, WEIGHT_INIT, drop_path_rates, ops, torch_default};

/// A Vision Transformer under the weight names of DINO and timm.
#[derive(Clone, Debug)]
pub struct Vit {
    config: VitConfig,
    patch_weight: Tensor,
    patch_bias: Tensor,
    cls_token: Option<Tensor>,
    pos_embed: Tensor,
    blocks: Vec<Block>,
    norm: Option<LayerNorm>,
}

/// Stochastic depth of one training pass: the rate of the last block and where draws come from.
pub struct DropPath<'a> {
    /// Rate of the last block; block `i` of `n` has `rate * i / (n - 1)`.
    pub rate: f64,
    /// Source of one draw per sample and residual branch.
    pub rng: &'a mut ChaCha8Rng,
}

impl Vit {
    /// Names `pos_embed`, `patch_embed.proj`, `blocks.i…`, and with class token `cls_token`, `norm`.
    pub fn new(config: &VitConfig, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let (dim, p) = (config.embed_dim, config.patch_size);
        let extra = usize::from(config.cls_and_norm);
        let positions = config.table_side().pow(2) + extra;
        let fan_in = config.in_channels * p * p;
        let proj = vb.pp("patch_embed.proj");
        // In the order of the reference's state dict.
        let cls_token =
            config.cls_and_norm.then(|| vb.get_with_hints((1, 1, dim), "cls_token", WEIGHT_INIT)).transpose()?;
        let pos_embed = vb.get_with_hints((1, positions, dim), "pos_embed", WEIGHT_INIT)?;
        let patch_weight = proj.get_with_hints((dim, config.in_channels, p, p), "weight", torch_default(fan_in))?;
        let patch_bias = proj.get_with_hints(dim, "bias", torch_default(fan_in))?;
        let blocks =
            (0..config.depth).map(|i| Block::new(config, vb.pp(format!("blocks.{i}")))).collect::<Result<_>>()?;
        let norm = config.cls_and_norm.then(|| LayerNorm::new(dim, config.norm_eps, vb.pp("norm"))).transpose()?;
        Ok(Self { config: config.clone(), patch_weight, patch_bias, cls_token, pos_embed, blocks, norm })
    }

    /// The shapes this backbone was made with.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Tokens after the last block (and the final norm, if there is one).
    ///
    /// `x [B, C, H, W]`, normalised -> `[B, N, D]`, or `[B, 1 + N, D]` with the class token first;
    /// patches row by row.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut t = self.tokens(x)?;
        for block in &self.blocks {
            t = block.forward(&t, None)?;
        }
        self.finish(t)
    }

    /// The same in training, with stochastic depth.
    pub fn forward_train(&self, x: &Tensor, drop: DropPath) -> Result<Tensor> {
        let rates = drop_path_rates(drop.rate, self.blocks.len());
        let mut t = self.tokens(x)?;
        for (block, rate) in self.blocks.iter().zip(rates) {
            t = block.forward(&t, Some((rate, &mut *drop.rng)))?;
        }
        self.finish(t)
    }

    /// Patch features only: `[B, C, H, W] -> [B, N, D]`.
    pub fn patch_features(&self, x: &Tensor) -> Result<Tensor> {
        let t = self.forward(x)?;
        let extra = usize::from(self.cls_token.is_some());
        t.narrow(1, extra, t.dim(1)? - extra)
    }

    /// Outputs of the last `n` blocks, first to last, each through the final norm if there is one
    /// (`get_intermediate_layers` of the reference).
    pub fn intermediate_layers(&self, x: &Tensor, n: usize) -> Result<Vec<Tensor>> {
        if n == 0 || n > self.blocks.len() {
            bail!("intermediate layers: {n} asked for, the backbone has {} blocks", self.blocks.len())
        }
        let first = self.blocks.len() - n;
        let mut t = self.tokens(x)?;
        let mut layers = Vec::with_capacity(n);
        for (i, block) in self.blocks.iter().enumerate() {
            t = block.forward(&t, None)?;
            if i >= first {
                layers.push(self.finish(t.clone())?);
            }
        }
        Ok(layers)
    }

    /// Attention probabilities of the last block, `[B, heads, T, T]`; rows are queries.
    pub fn last_attention(&self, x: &Tensor) -> Result<Tensor> {
        let mut t = self.tokens(x)?;
        let Some((last, before)) = self.blocks.split_last() else { bail!("depth: the backbone has no blocks") };
        for block in before {
            t = block.forward(&t, None)?;
        }
        last.attention(&t)
    }

    /// Patches projected, positions added, class token in front: the input of the first block.
    pub fn tokens(&self, x: &Tensor) -> Result<Tensor> {
        let (b, channels, height, width) = x.dims4()?;
        if channels != self.config.in_channels {
            bail!("the backbone takes {} channels, the image has {channels}", self.config.in_channels)
        }
        self.config.grid(height, width)?;
        let dim = self.config.embed_dim;
        // Rows, columns, channels: the order in which torch's convolution sums.
        let weight = self.patch_weight.permute([0, 2, 3, 1])?.reshape((dim, ()))?;
        let patches = ops::linear_in_order(&self.patchify(x)?, &weight, &self.patch_bias)?;
        let positions = self.positions(height, width)?;
        match &self.cls_token {
            None => patches.broadcast_add(&positions),
            Some(cls) => {
                let cls = cls.broadcast_as((b, 1, dim))?;
                Tensor::cat(&[&cls, &patches], 1)?.broadcast_add(&positions)
            }
        }
    }

    /// Positions added to the tokens of a `height x width` image: `[1, N, D]`, or `[1, 1 + N, D]`.
    pub fn positions(&self, height: usize, width: usize) -> Result<Tensor> {
        let (rows, cols) = self.config.grid(height, width)?;
        let square = height == width;
        if self.cls_token.is_none() {
            return position::resize(&self.pos_embed, rows, cols, square);
        }
        let cls = self.pos_embed.narrow(1, 0, 1)?;
        let table = self.pos_embed.narrow(1, 1, self.pos_embed.dim(1)? - 1)?;
        Tensor::cat(&[&cls, &position::resize(&table.contiguous()?, rows, cols, square)?], 1)
    }

    /// `[B, C, H, W] -> [B, N, p*p*C]`: each patch row by row, its channels innermost.
    fn patchify(&self, x: &Tensor) -> Result<Tensor> {
        let (b, c, height, width) = x.dims4()?;
        let p = self.config.patch_size;
        let (rows, cols) = (height / p, width / p);
        x.reshape((b, c, rows, p, cols * p))?
            .reshape(&[b, c, rows, p, cols, p][..])?
            .permute([0, 2, 4, 3, 5, 1])?
            .reshape((b, rows * cols, c * p * p))
    }

    fn finish(&self, t: Tensor) -> Result<Tensor> {
        match &self.norm {
            Some(norm) => norm.forward(&t),
            None => Ok(t),
        }
    }

    /// Class-token output, `[B, 1 + N, D] -> [B, D]`; an error for a backbone without class token.
    pub fn cls(&self, tokens: &Tensor) -> Result<Tensor> {
        if self.cls_token.is_none() {
            bail!("this backbone has no class token; pool its patches with selfpatch-aggregation")
        }
        tokens.narrow(1, 0, 1)?.squeeze(1)?.narrow(D::Minus1, 0, self.config.embed_dim)
    }
}
