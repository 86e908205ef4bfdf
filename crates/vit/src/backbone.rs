//! The backbone: pixels to tokens.

use crate::input::Stated;
use crate::position::Rule;
use crate::{VitConfig, position};
use candle_core::{D, Result, Tensor, bail};
use candle_nn::VarBuilder;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use selfpatch_nn::ops::Survivals;
use selfpatch_nn::{
    Backbone, Block, LayerNorm, Pass, Patches, Sequences, Survival, WEIGHT_INIT, drop_path_rates, ops, torch_default,
};
use std::collections::BTreeMap;

/// A Vision Transformer under the weight names of DINO and timm.
#[derive(Clone, Debug)]
pub struct Vit {
    config: VitConfig,
    patch_weight: Tensor,
    patch_bias: Tensor,
    cls_token: Option<Tensor>,
    reg_token: Option<Tensor>,
    pos_embed: Tensor,
    blocks: Vec<Block>,
    norm: Option<LayerNorm>,
    fc_norm: Option<LayerNorm>,
    stated: Stated,
}

impl Vit {
    /// Names `pos_embed`, `patch_embed.proj`, `blocks.i…`, and where the configuration has them `cls_token`,
    /// `reg_token`, `norm`, `fc_norm`.
    pub fn new(config: &VitConfig, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let (dim, p) = (config.embed_dim, config.patch_size);
        let positions = config.table_side().pow(2) + usize::from(config.class_token);
        let fan_in = config.in_channels * p * p;
        let proj = vb.pp("patch_embed.proj");
        // In the order of the reference's state dict.
        let cls_token =
            config.class_token.then(|| vb.get_with_hints((1, 1, dim), "cls_token", WEIGHT_INIT)).transpose()?;
        let registers = config.registers;
        let reg_token =
            (registers > 0).then(|| vb.get_with_hints((1, registers, dim), "reg_token", WEIGHT_INIT)).transpose()?;
        let pos_embed = vb.get_with_hints((1, positions, dim), "pos_embed", WEIGHT_INIT)?;
        let patch_weight = proj.get_with_hints((dim, config.in_channels, p, p), "weight", torch_default(fan_in))?;
        let patch_bias = proj.get_with_hints(dim, "bias", torch_default(fan_in))?;
        let block = |i: usize| {
            let vb = vb.pp(format!("blocks.{i}"));
            Block::new(dim, config.num_heads, config.hidden(), config.qkv_bias, config.norm_eps, vb)
        };
        let blocks = (0..config.depth).map(block).collect::<Result<_>>()?;
        let norm = |wanted: bool, name| wanted.then(|| LayerNorm::new(dim, config.norm_eps, vb.pp(name))).transpose();
        Ok(Self {
            config: config.clone(),
            patch_weight,
            patch_bias,
            cls_token,
            reg_token,
            pos_embed,
            blocks,
            norm: norm(config.final_norm, "norm")?,
            fc_norm: norm(config.pooled_norm, "fc_norm")?,
            stated: Stated::default(),
        })
    }

    /// This backbone with `stated` recorded as what is known of its weights and training images.
    pub fn with_stated(mut self, stated: Stated) -> Self {
        self.stated = stated;
        self
    }

    /// What the weight file states of the backbone and of the images that it was trained on.
    pub fn stated(&self) -> &Stated {
        &self.stated
    }

    /// This backbone with another rule for positions on grids other than that of the table.
    pub fn with_positions(mut self, rule: Rule) -> Self {
        self.config.positions = rule;
        self
    }

    /// The configuration that this backbone was made with.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Tokens after the last block (and the final norm, if there is one).
    ///
    /// `x [B, C, H, W]`, normalised -> `[B, N, D]`, or `[B, 1 + R + N, D]` with the class token first and R registers
    /// after it; patches row by row.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let t = self.tokens(x)?;
        self.finish(self.through(&t, &self.blocks, &Pass::default())?)
    }

    /// The number of tokens of each crop.
    pub fn sequences(&self, patches: &Patches) -> Sequences {
        let extra = self.config.leading();
        Sequences::new(&patches.groups().iter().map(|g| (g.count, g.rows * g.cols + extra)).collect::<Vec<_>>())
    }

    /// Patch features only: `[B, C, H, W] -> [B, N, D]`.
    pub fn patch_features(&self, x: &Tensor) -> Result<Tensor> {
        let t = self.forward(x)?;
        let extra = self.config.leading();
        t.narrow(1, extra, t.dim(1)? - extra)
    }

    /// Patch features after block `layer` (1 to the depth), with or without the final norm:
    /// `[B, C, H, W] -> [B, N, D]`.
    pub fn block_features(&self, x: &Tensor, layer: usize, norm: bool) -> Result<Tensor> {
        if !(1..=self.blocks.len()).contains(&layer) {
            bail!("layer {layer}: the backbone has blocks 1 to {}", self.blocks.len())
        }
        if norm && self.norm.is_none() {
            bail!("norm: the backbone has no final norm")
        }
        let t = self.through(&self.tokens(x)?, &self.blocks[..layer], &Pass::default())?;
        let t = if norm { self.finish(t)? } else { t };
        let extra = self.config.leading();
        t.narrow(1, extra, t.dim(1)? - extra)
    }

    /// Whether there is a norm after the last block.
    pub fn has_norm(&self) -> bool {
        self.norm.is_some()
    }

    /// Outputs of the last `n` blocks, first to last, each through the final norm if there is one
    /// (`get_intermediate_layers` of the reference).
    pub fn intermediate_layers(&self, x: &Tensor, n: usize) -> Result<Vec<Tensor>> {
        if n == 0 || n > self.blocks.len() {
            bail!("intermediate layers: {n} asked for, the backbone has {} blocks", self.blocks.len())
        }
        let (before, last) = self.blocks.split_at(self.blocks.len() - n);
        let mut t = self.through(&self.tokens(x)?, before, &Pass::default())?;
        last.iter()
            .map(|block| {
                t = self.through(&t, std::slice::from_ref(block), &Pass::default())?;
                self.finish(t.clone())
            })
            .collect()
    }

    /// The input of the first block: patches projected, positions added, class token and registers in front.
    /// `[B, C, H, W] -> [B, T, D]`.
    pub fn tokens(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.embed(&self.patches(std::slice::from_ref(x))?)?.remove(0))
    }

    /// Positions that are added to the tokens of a `height x width` image: `[1, N, D]`, or `[1, 1 + N, D]` with a
    /// class token.
    pub fn positions(&self, height: usize, width: usize) -> Result<Tensor> {
        let (rows, cols) = self.config.grid(height, width)?;
        let (square, rule) = (height == width, self.config.positions);
        if self.cls_token.is_none() {
            return position::resize(&self.pos_embed, rows, cols, square, rule);
        }
        let cls = self.pos_embed.narrow(1, 0, 1)?;
        let table = self.pos_embed.narrow(1, 1, self.pos_embed.dim(1)? - 1)?;
        Tensor::cat(&[&cls, &position::resize(&table.contiguous()?, rows, cols, square, rule)?], 1)
    }

    /// The input of the first block, one tensor per crop size.
    fn embed(&self, patches: &Patches) -> Result<Vec<Tensor>> {
        let dim = self.config.embed_dim;
        // Rows, columns, channels: the order in which torch's convolution sums.
        let weight = self.patch_weight.permute([0, 2, 3, 1])?.reshape((dim, ()))?;
        let rows = ops::linear_in_order(patches.rows(), &weight, &self.patch_bias)?.to_dtype(self.pos_embed.dtype())?;
        let p = self.config.patch_size;
        let mut first = 0;
        patches
            .groups()
            .iter()
            .map(|g| {
                let n = g.rows * g.cols;
                let mut t = rows.narrow(0, first, g.count * n)?.reshape((g.count, n, dim))?;
                first += g.count * n;
                if let Some(cls) = &self.cls_token {
                    t = Tensor::cat(&[&cls.broadcast_as((g.count, 1, dim))?, &t], 1)?;
                }
                let t = t.broadcast_add(&self.positions(g.rows * p, g.cols * p)?)?;
                let Some(registers) = &self.reg_token else { return Ok(t) };
                let registers = registers.broadcast_as((g.count, self.config.registers, dim))?;
                let first = usize::from(self.cls_token.is_some());
                let patches = t.narrow(1, first, n)?;
                match first {
                    0 => Tensor::cat(&[&registers, &patches], 1),
                    _ => Tensor::cat(&[&t.narrow(1, 0, first)?, &registers, &patches], 1),
                }
            })
            .collect()
    }

    /// Passes `t [B, T, D]` through `blocks`; `pass` is drawn for these alone.
    fn through(&self, t: &Tensor, blocks: &[Block], pass: &Pass) -> Result<Tensor> {
        let (b, n, _) = t.dims3()?;
        let sequences = Sequences::new(&[(b, n)]);
        let (survivals, activations) = (pass.survivals.as_ref(), pass.activations);
        ops::transformer(&t.flatten(0, 1)?, &sequences, blocks, survivals, activations)?.reshape(t.shape())
    }

    fn finish(&self, t: Tensor) -> Result<Tensor> {
        match &self.norm {
            Some(norm) => norm.forward(&t),
            None => Ok(t),
        }
    }

    /// One feature per image from its tokens, `[B, T, D] -> [B, D]`: the normalised mean of the patches if the
    /// backbone has a norm for it (`fc_norm`), otherwise the class token, or the mean of the patches if there is
    /// none.
    pub fn pooled(&self, tokens: &Tensor) -> Result<Tensor> {
        if self.cls_token.is_some() && self.fc_norm.is_none() {
            return self.cls(tokens);
        }
        let extra = self.config.leading();
        let mean = tokens.narrow(1, extra, tokens.dim(1)? - extra)?.mean(1)?;
        match &self.fc_norm {
            Some(norm) => norm.forward(&mean),
            None => Ok(mean),
        }
    }

    /// The feature of [`Vit::pooled`], in words.
    pub fn pooled_words(&self) -> &'static str {
        match (self.cls_token.is_some(), self.fc_norm.is_some()) {
            (_, true) => "mean of the patch tokens through its norm (fc_norm)",
            (true, false) => "class token",
            (false, false) => "mean of the patch tokens (there is no class token)",
        }
    }

    /// Class-token output, `[B, 1 + R + N, D] -> [B, D]`; an error for a backbone without class token.
    pub fn cls(&self, tokens: &Tensor) -> Result<Tensor> {
        if self.cls_token.is_none() {
            bail!("this backbone has no class token; pool its patches with selfpatch-aggregation")
        }
        tokens.narrow(1, 0, 1)?.squeeze(1)?.narrow(D::Minus1, 0, self.config.embed_dim)
    }
}

impl Backbone for Vit {
    fn width(&self) -> usize {
        self.config.embed_dim
    }

    fn grid(&self, height: usize, width: usize) -> Result<(usize, usize)> {
        self.config.grid(height, width)
    }

    fn patches(&self, crops: &[Tensor]) -> Result<Patches> {
        Patches::new(self.config.cut(), crops)
    }

    fn packed(&self, patches: &Patches, pass: &Pass) -> Result<(Tensor, Sequences)> {
        let groups = self.embed(patches)?;
        let sequences = self.sequences(patches);
        let x = Sequences::join(&groups)?;
        let t = ops::transformer(&x, &sequences, &self.blocks, pass.survivals.as_ref(), pass.activations)?;
        Ok((self.finish(t)?, sequences))
    }

    /// Block `i` of `n` drops with probability `rate * i / (n - 1)`; each crop size has its own draws, one after the
    /// other.
    fn stochastic_depth(&self, rate: f64, groups: &[usize], rng: &mut ChaCha8Rng) -> Survivals {
        let rates = drop_path_rates(rate, self.blocks.len());
        let mut draws: Vec<[Vec<f32>; 2]> = vec![Default::default(); rates.len()];
        for &count in groups {
            for (draws, _) in draws.iter_mut().zip(&rates).filter(|(_, rate)| **rate > 0.) {
                for branch in draws {
                    branch.extend((0..count).map(|_| rng.random::<f32>()));
                }
            }
        }
        let survivals =
            |(draws, rate): ([Vec<f32>; 2], f64)| draws.map(|u| (rate > 0.).then(|| Survival::new(rate, &u)));
        draws.into_iter().zip(rates).map(survivals).collect()
    }

    /// The tokens of each block as it leaves them: without the final norm, class token and registers. Each block
    /// runs once.
    fn maps(&self, x: &Tensor, taps: &[usize], pass: &Pass) -> Result<Vec<Tensor>> {
        let (b, _, height, width) = x.dims4()?;
        let (rows, cols) = self.grid(height, width)?;
        if let Some(tap) = taps.iter().find(|tap| !(1..=self.blocks.len()).contains(*tap)) {
            bail!("tap {tap}: the backbone has blocks 1 to {}", self.blocks.len())
        }
        if let Some(drawn) = pass.survivals.as_ref().map(Vec::len).filter(|drawn| *drawn != self.blocks.len()) {
            bail!("stochastic depth is drawn for {drawn} blocks, the backbone has {}", self.blocks.len())
        }
        let (extra, dim) = (self.config.leading(), self.config.embed_dim);
        let mut order: Vec<usize> = taps.to_vec();
        order.sort_unstable();
        order.dedup();
        let (mut t, mut done) = (self.tokens(x)?, 0);
        let mut found = BTreeMap::new();
        for tap in order {
            let survivals = pass.survivals.as_ref().map(|survivals| survivals[done..tap].to_vec());
            t = self.through(&t, &self.blocks[done..tap], &Pass { survivals, ..*pass })?;
            done = tap;
            let patches = t.narrow(1, extra, rows * cols)?;
            found.insert(tap, patches.transpose(1, 2)?.contiguous()?.reshape((b, dim, rows, cols))?);
        }
        Ok(taps.iter().filter_map(|tap| found.get(tap).cloned()).collect())
    }

    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let Some((last, before)) = self.blocks.split_last() else { bail!("depth: the backbone has no blocks") };
        ops::block_attention(last, &self.through(&self.tokens(x)?, before, &Pass::default())?)
    }
}
