//! A Vision Transformer as a [`DenseFeatures`].

use crate::Error;
use crate::davis::{DenseFeatures, Features};
use candle_core::{Device, Result, Tensor};
use selfpatch_nn::{Precision, autocast, room};
use selfpatch_vit::Vit;

/// Patch tokens of a block of a backbone, by default of the last one and through its final norm if it has
/// one, without the class token (QUIRKS 1: SelfPatch's own backbone has neither).
pub struct VitFeatures {
    vit: Vit,
    device: Device,
    layer: usize,
    norm: bool,
    precision: Precision,
}

impl VitFeatures {
    /// Features of `vit`, whose weights lie on `device`.
    pub fn new(vit: Vit, device: Device) -> Self {
        let (layer, norm) = (vit.config().depth, vit.has_norm());
        Self { vit, device, layer, norm, precision: Precision::F32 }
    }

    /// Features of block `layer`, from 1 to the depth; by default the last.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such block.
    pub fn of_layer(mut self, layer: usize) -> std::result::Result<Self, Error> {
        let depth = self.vit.config().depth;
        if !(1..=depth).contains(&layer) {
            return Err(Error::Config {
                field: "layer",
                reason: format!("{layer} is not one of the blocks 1 to {depth}"),
            });
        }
        self.layer = layer;
        Ok(self)
    }

    /// Features through the final norm or as they leave the block.
    ///
    /// # Errors
    /// [`Error::Config`] if a norm is asked for and the backbone has none.
    pub fn with_norm(mut self, norm: bool) -> std::result::Result<Self, Error> {
        if norm && !self.vit.has_norm() {
            return Err(Error::Config { field: "norm", reason: "this backbone has no final norm".into() });
        }
        self.norm = norm;
        Ok(self)
    }

    /// Features computed in `precision`; by default f32.
    pub fn in_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    fn run(&self, pixels: &[f32], height: usize, width: usize) -> Result<Features> {
        let p = self.vit.config().patch_size;
        let (grid_h, grid_w) = (height / p, width / p);
        // As a strided convolution does: the rest at the right and below is left out.
        let image = Tensor::from_slice(pixels, (1, 3, height, width), &self.device)?
            .narrow(2, 0, grid_h * p)?
            .narrow(3, 0, grid_w * p)?
            .contiguous()?;
        let tokens = autocast(self.precision, || self.vit.block_features(&image, self.layer, self.norm))?;
        let tokens = tokens.flatten_all()?.to_vec1::<f32>()?;
        Ok(Features { tokens, grid_h, grid_w })
    }
}

impl DenseFeatures for VitFeatures {
    fn patch(&self) -> usize {
        self.vit.config().patch_size
    }

    fn features(&self, pixels: &[f32], height: usize, width: usize) -> std::result::Result<Features, Error> {
        if self.device.is_cpu() {
            let needed = self.vit.config().forward_bytes(1, height, width);
            room::admit(needed, "a smaller size (--scale-size) or a model with larger patches")
                .map_err(|reason| Error::Model(format!("a frame of {width} x {height} pixels {reason}")))?;
        }
        self.run(pixels, height, width).map_err(|e| Error::Model(e.to_string()))
    }
}
