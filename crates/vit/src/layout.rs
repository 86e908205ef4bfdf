//! Reading the shapes of a backbone from a set of named weights.

use crate::VitConfig;
use crate::position::Rule;
use candle_core::{Result, Tensor, bail};
use std::collections::BTreeMap;

impl VitConfig {
    /// The configuration that fits `weights` (names without any prefix).
    ///
    /// Patch size, width, depth, position table, class token, registers and norms are read from the shapes; norms are
    /// assumed to have DINO's epsilon, 1e-6. The number of heads cannot be read from the shapes: pass it, or 0 for
    /// the published rule of 64 channels per head (an error if 64 does not divide the width).
    pub fn of_weights(weights: &BTreeMap<String, Tensor>, num_heads: usize) -> Result<Self> {
        let need = |name: &str| match weights.get(name) {
            Some(t) => Ok(t.dims().to_vec()),
            None => bail!("these are not the weights of a ViT backbone: {name} is missing"),
        };
        let patch = need("patch_embed.proj.weight")?;
        let table = need("pos_embed")?;
        let (&[dim, in_channels, p, q], &[1, positions, table_dim]) = (&patch[..], &table[..]) else {
            bail!("patch_embed.proj.weight {patch:?} and pos_embed {table:?} do not have the ranks of a ViT")
        };
        let cls = weights.contains_key("cls_token");
        let registers = weights.get("reg_token").map_or(Ok(0), |t| t.dim(1))?;
        let side = (positions - usize::from(cls && positions > 0)).isqrt();
        if dim == 0 || p == 0 || p != q || table_dim != dim || side.pow(2) + usize::from(cls) != positions {
            bail!("patch_embed.proj.weight {patch:?} and pos_embed {table:?} do not fit together")
        }
        let depth = (0..).take_while(|i| weights.contains_key(&format!("blocks.{i}.norm1.weight"))).count();
        let hidden = match need("blocks.0.mlp.fc1.weight")?[..] {
            [hidden, width] if width == dim && hidden > 0 => hidden,
            ref other => bail!("blocks.0.mlp.fc1.weight {other:?} does not fit a width of {dim}"),
        };
        if num_heads == 0 && !dim.is_multiple_of(64) {
            bail!("num_heads: cannot be read from weights of width {dim}; state it")
        }
        let config = Self {
            image_size: side * p,
            patch_size: p,
            in_channels,
            embed_dim: dim,
            depth,
            num_heads: if num_heads > 0 { num_heads } else { dim / 64 },
            mlp_ratio: hidden.div_ceil(dim),
            mlp_hidden: (!hidden.is_multiple_of(dim)).then_some(hidden),
            qkv_bias: weights.contains_key("blocks.0.attn.qkv.bias"),
            norm_eps: 1e-6,
            class_token: cls,
            registers,
            final_norm: weights.contains_key("norm.weight"),
            pooled_norm: weights.contains_key("fc_norm.weight"),
            positions: Rule::Dino,
        };
        config.validate()?;
        Ok(config)
    }
}
