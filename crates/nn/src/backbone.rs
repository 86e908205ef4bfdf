//! What a backbone is to those who train and use it.

use crate::ops::{self, Activations, Survivals};
use crate::sequences::Sequences;
use candle_core::{Result, Tensor, bail};
use rand_chacha::ChaCha8Rng;

/// Images to tokens: what trainers, evaluations and pictures need of a network, whatever it is made of. The second
/// implementation in sight is Swin (four stages, windows, no query maps).
pub trait Backbone: Send + Sync {
    /// Width of a token, D.
    fn width(&self) -> usize;

    /// Rows and columns of tokens for an image of this size.
    ///
    /// # Errors
    /// When the backbone does not take images of this size.
    fn grid(&self, height: usize, width: usize) -> Result<(usize, usize)>;

    /// Crops, one normalised tensor `[B, C, H, W]` per size, as rows of pixels. Networks of one shape can share them.
    ///
    /// # Errors
    /// When the crops do not fit.
    fn patches(&self, crops: &[Tensor]) -> Result<Patches>;

    /// Tokens of crops of several sizes at once, packed: `[T, D]`, and how many belong to each crop.
    ///
    /// # Errors
    /// When the patches are those of another backbone.
    fn packed(&self, patches: &Patches, pass: &Pass) -> Result<(Tensor, Sequences)>;

    /// Draws which crops keep which residual branch, the last block dropping with probability `rate`; `groups`:
    /// number of crops of each size.
    fn stochastic_depth(&self, rate: f64, groups: &[usize], rng: &mut ChaCha8Rng) -> Survivals;

    /// Features after the blocks (or stages) `taps`, counted from 1, of images `[B, C, H, W]`: `[B, C_i, h, w]` each.
    /// `pass` is that of all blocks, whatever is tapped.
    ///
    /// # Errors
    /// When there is no such block, or `pass` is drawn for other blocks or images.
    fn maps(&self, x: &Tensor, taps: &[usize], pass: &Pass) -> Result<Vec<Tensor>>;

    /// Attention probabilities of the last block between all tokens, `[B, heads, T, T]`; rows are queries.
    ///
    /// # Errors
    /// When tokens do not see each other; the error states the reason.
    fn attention(&self, x: &Tensor) -> Result<Tensor>;
}

/// How one training pass runs through the blocks.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// Which crops keep which residual branch; see [`Backbone::stochastic_depth`].
    pub survivals: Option<Survivals>,
    /// What is kept for the backward pass.
    pub activations: Activations,
}

/// How images become patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Channels of an image.
    pub channels: usize,
    /// Side of a patch in pixels.
    pub side: usize,
}

impl Cut {
    /// Rows and columns of patches of an image.
    ///
    /// # Errors
    /// When the patch does not divide its sides.
    pub fn grid(&self, height: usize, width: usize) -> Result<(usize, usize)> {
        let p = self.side;
        if height == 0 || width == 0 || p == 0 || !height.is_multiple_of(p) || !width.is_multiple_of(p) {
            bail!(
                "an image of {height} x {width} pixels cannot be cut into patches of {p} x {p}; \
                 crop or pad both sides to a multiple of {p}"
            )
        }
        Ok((height / p, width / p))
    }
}

/// Crops cut into patches: what the projection of a backbone multiplies.
#[derive(Clone, Debug)]
pub struct Patches {
    /// Rows of patches, `[T, p * p * C]`.
    rows: Tensor,
    groups: Vec<Group>,
}

/// Crops of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Number of crops.
    pub count: usize,
    /// Patches from top to bottom.
    pub rows: usize,
    /// Patches from left to right.
    pub cols: usize,
}

impl Patches {
    /// Patches of crops, one tensor `[B, C, H, W]` per size, that `cut` describes.
    ///
    /// # Errors
    /// When there are no crops, or they have other channels or sides.
    pub fn new(cut: Cut, crops: &[Tensor]) -> Result<Self> {
        let (mut parts, mut groups) = (Vec::new(), Vec::new());
        for x in crops {
            let (count, channels, height, width) = x.dims4()?;
            if channels != cut.channels {
                bail!("the backbone takes {} channels, the image has {channels}", cut.channels)
            }
            let (rows, cols) = cut.grid(height, width)?;
            parts.push(ops::patchify(x, cut.side)?);
            groups.push(Group { count, rows, cols });
        }
        let rows = match &parts[..] {
            [] => bail!("there are no images"),
            [one] => one.clone(),
            many => Tensor::cat(many, 0)?,
        };
        Ok(Self { rows, groups })
    }

    /// All patches of all crops, `[T, p * p * C]`: a patch row by row, its channels innermost.
    pub fn rows(&self) -> &Tensor {
        &self.rows
    }

    /// The crops by size.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }
}
