//! Images as rows of pixels.

use crate::VitConfig;
use candle_core::{Result, Tensor, bail};
use selfpatch_nn::ops;

/// Crops cut into patches: what the projection of a backbone multiplies.
#[derive(Clone, Debug)]
pub struct Patches {
    /// `[T, p * p * C]`.
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
    pub(crate) fn new(config: &VitConfig, crops: &[Tensor]) -> Result<Self> {
        let (mut parts, mut groups) = (Vec::new(), Vec::new());
        for x in crops {
            let (count, channels, height, width) = x.dims4()?;
            if channels != config.in_channels {
                bail!("the backbone takes {} channels, the image has {channels}", config.in_channels)
            }
            let (rows, cols) = config.grid(height, width)?;
            parts.push(ops::patchify(x, config.patch_size)?);
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
