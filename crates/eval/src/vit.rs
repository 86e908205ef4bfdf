//! A Vision Transformer as a [`DenseFeatures`].

use crate::Error;
use crate::davis::{DenseFeatures, Features};
use candle_core::{Device, Result, Tensor};
use selfpatch_vit::Vit;

/// Patch tokens of the last block of a backbone, through its final norm if it has one, without the
/// class token (QUIRKS 1: SelfPatch's own backbone has neither).
pub struct VitFeatures {
    vit: Vit,
    device: Device,
}

impl VitFeatures {
    /// Features of `vit`, whose weights lie on `device`.
    pub fn new(vit: Vit, device: Device) -> Self {
        Self { vit, device }
    }

    fn run(&self, pixels: &[f32], height: usize, width: usize) -> Result<Features> {
        let p = self.vit.config().patch_size;
        let (grid_h, grid_w) = (height / p, width / p);
        // As a strided convolution does: the rest at the right and below is left out.
        let image = Tensor::from_slice(pixels, (1, 3, height, width), &self.device)?
            .narrow(2, 0, grid_h * p)?
            .narrow(3, 0, grid_w * p)?
            .contiguous()?;
        let tokens = self.vit.patch_features(&image)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(Features { tokens, grid_h, grid_w })
    }
}

impl DenseFeatures for VitFeatures {
    fn patch(&self) -> usize {
        self.vit.config().patch_size
    }

    fn features(&self, pixels: &[f32], height: usize, width: usize) -> std::result::Result<Features, Error> {
        self.run(pixels, height, width).map_err(|e| Error::Model(e.to_string()))
    }
}
