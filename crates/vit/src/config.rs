//! Shapes of a backbone.

use crate::position::Rule;
use candle_core::{Result, bail};
use selfpatch_nn::Cut;

/// Everything that fixes the shape and layout of a [`crate::Vit`].
#[derive(Clone, Debug, PartialEq)]
pub struct VitConfig {
    /// Side of the square images that the position table was made for, in pixels.
    pub image_size: usize,
    /// Side of a square patch, in pixels.
    pub patch_size: usize,
    /// Channels of the input images.
    pub in_channels: usize,
    /// Width `D` of a token.
    pub embed_dim: usize,
    /// Number of transformer blocks.
    pub depth: usize,
    /// Attention heads; must divide `embed_dim`.
    pub num_heads: usize,
    /// Hidden width of the MLP divided by `embed_dim`, rounded up if it is not a multiple.
    pub mlp_ratio: usize,
    /// Hidden width of the MLP if it is not a multiple of `embed_dim`; `None` means `mlp_ratio * embed_dim`.
    pub mlp_hidden: Option<usize>,
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Epsilon of every layer norm.
    pub norm_eps: f64,
    /// Whether a class token with its own position precedes the patches (DINO, timm, DINOv2). SelfPatch's own
    /// backbone has none.
    pub class_token: bool,
    /// Further tokens between the class token and the patches, without positions: registers, a distillation token.
    pub registers: usize,
    /// Whether a norm follows the last block. SelfPatch's own backbone has none.
    pub final_norm: bool,
    /// Whether there is a separate norm for the mean of the patches (`fc_norm` of timm and MAE).
    pub pooled_norm: bool,
    /// How positions are resized to grids other than that of the table.
    pub positions: Rule,
}

impl VitConfig {
    /// A SelfPatch backbone (tokens only) of custom width, depth and heads for 224-pixel images.
    pub fn new(embed_dim: usize, depth: usize, num_heads: usize, patch_size: usize) -> Self {
        Self {
            image_size: 224,
            patch_size,
            in_channels: 3,
            embed_dim,
            depth,
            num_heads,
            mlp_ratio: 4,
            mlp_hidden: None,
            qkv_bias: true,
            norm_eps: 1e-6, // reference: VisionTransformer, partial(nn.LayerNorm, eps=1e-6)
            class_token: false,
            registers: 0,
            final_norm: false,
            pooled_norm: false,
            positions: Rule::Dino,
        }
    }

    /// `vit_tiny` (192/12/3), `vit_small` (384/12/6) or `vit_base` (768/12/12), as DINO names them.
    pub fn arch(name: &str, patch_size: usize) -> Result<Self> {
        let (dim, heads) = match name {
            "vit_tiny" => (192, 3),
            "vit_small" => (384, 6),
            "vit_base" => (768, 12),
            other => bail!("arch: there is no {other:?}; choose vit_tiny, vit_small or vit_base"),
        };
        Ok(Self::new(dim, 12, heads, patch_size))
    }

    /// This configuration with a class token and a final norm.
    pub fn with_cls_and_norm(mut self) -> Self {
        (self.class_token, self.final_norm) = (true, true);
        self
    }

    /// Hidden width of the MLP.
    pub fn hidden(&self) -> usize {
        self.mlp_hidden.unwrap_or(self.mlp_ratio.saturating_mul(self.embed_dim))
    }

    /// Number of tokens before the patches.
    pub fn leading(&self) -> usize {
        usize::from(self.class_token) + self.registers
    }

    /// This configuration with a position table for another image side, in pixels.
    pub fn with_image_size(mut self, image_size: usize) -> Self {
        self.image_size = image_size;
        self
    }

    /// Side of the position table, in patches.
    pub fn table_side(&self) -> usize {
        self.image_size / self.patch_size.max(1)
    }

    /// Rows and columns of the patch grid of a `height x width` image.
    pub fn grid(&self, height: usize, width: usize) -> Result<(usize, usize)> {
        self.cut().grid(height, width)
    }

    /// How images become patches.
    pub fn cut(&self) -> Cut {
        Cut { channels: self.in_channels, side: self.patch_size }
    }

    /// Bytes that a forward pass without gradients takes besides the weights, for `images` of `height x width` pixels
    /// on the CPU in f32: the widest layer, and for each thread the attention of one head. Saturates at `u64::MAX`.
    pub fn forward_bytes(&self, images: usize, height: usize, width: usize) -> u64 {
        let number = |n: usize| n as f64;
        let patch = self.patch_size.max(1);
        let tokens = number(height / patch) * number(width / patch) + number(self.leading());
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(self.num_heads * images.max(1));
        let rows = 8. * number(self.embed_dim) + number(self.hidden());
        let pixels = 2. * number(self.in_channels) * number(height) * number(width);
        (4. * (number(images) * (tokens * rows + pixels) + number(threads) * tokens * tokens)) as u64
    }

    /// Refuses impossible shapes, naming the field.
    pub fn validate(&self) -> Result<()> {
        for (field, value) in [
            ("patch_size", self.patch_size),
            ("in_channels", self.in_channels),
            ("embed_dim", self.embed_dim),
            ("depth", self.depth),
            ("num_heads", self.num_heads),
            ("mlp_ratio", self.mlp_ratio),
            ("mlp_hidden", self.mlp_hidden.unwrap_or(1)),
        ] {
            if value == 0 {
                bail!("{field}: must be at least 1")
            }
        }
        if !self.embed_dim.is_multiple_of(self.num_heads) {
            bail!("num_heads: {} heads do not divide embed_dim {}", self.num_heads, self.embed_dim)
        }
        if self.table_side() == 0 || !self.image_size.is_multiple_of(self.patch_size) {
            bail!("image_size: {} is not a multiple of patch_size {}", self.image_size, self.patch_size)
        }
        Ok(())
    }
}
