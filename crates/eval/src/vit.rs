//! A Vision Transformer as a [`DenseFeatures`].

use crate::Error;
use crate::davis::{DenseFeatures, Features};
use crate::frames::{MEAN, STD};
use candle_core::{Device, Result, Tensor};
use selfpatch_nn::{Precision, autocast, room};
use selfpatch_vit::Vit;
use std::borrow::Cow;

/// Patch tokens of a block of a backbone, by default of the last one and through its final norm if it has
/// one, without the class token (QUIRKS 1: SelfPatch's own backbone has neither).
pub struct VitFeatures {
    vit: Vit,
    device: Device,
    layer: usize,
    norm: bool,
    precision: Precision,
    /// Per channel, what a value of the protocol's normalisation is multiplied by and what is added, where the
    /// backbone has a normalisation of its own.
    shift: Option<Vec<(f32, f32)>>,
}

/// ImageNet's deviation of red, beside which the protocol's own passes for the same.
const IMAGENET_RED: f32 = 0.229;

impl VitFeatures {
    /// Features of `vit`, whose weights lie on `device`.
    ///
    /// A backbone that states another mean and deviation than ImageNet's sees frames normalised by these. One of a
    /// single channel sees their brightness, as `L` of Pillow.
    pub fn new(vit: Vit, device: Device) -> Self {
        let (layer, norm) = (vit.config().depth, vit.has_norm());
        let shift = shift(&vit);
        Self { vit, device, layer, norm, precision: Precision::F32, shift }
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
        let pixels = self.shown(pixels);
        let channels = pixels.len() / (height * width).max(1);
        // As a strided convolution does: the rest at the right and below is left out.
        let image = Tensor::from_slice(&pixels, (1, channels, height, width), &self.device)?
            .narrow(2, 0, grid_h * p)?
            .narrow(3, 0, grid_w * p)?
            .contiguous()?;
        let tokens = autocast(self.precision, || self.vit.block_features(&image, self.layer, self.norm))?;
        let tokens = tokens.flatten_all()?.to_vec1::<f32>()?;
        Ok(Features { tokens, grid_h, grid_w })
    }
}

impl VitFeatures {
    /// Planes of the protocol as the backbone wants them.
    fn shown<'a>(&self, pixels: &'a [f32]) -> Cow<'a, [f32]> {
        let plane = (pixels.len() / 3).max(1);
        if self.vit.config().in_channels == 1 {
            // Undo the protocol's normalisation, then brightness, then the backbone's.
            let (scale, offset) = self.shift.as_ref().and_then(|s| s.first()).copied().unwrap_or((1., 0.));
            let of = |c: usize, i: usize| pixels[c * plane + i] * STD[c] + MEAN[c];
            let grey = |i: usize| 0.299 * of(0, i) + 0.587 * of(1, i) + 0.114 * of(2, i);
            return (0..plane).map(|i| grey(i) * scale + offset).collect();
        }
        let Some(shift) = &self.shift else { return Cow::Borrowed(pixels) };
        let planes = pixels.chunks(plane).zip(shift);
        planes.flat_map(|(plane, (scale, offset))| plane.iter().map(move |v| v * scale + offset)).collect()
    }
}

/// How values change from the protocol's normalisation (of a single channel: from 0..1) to the backbone's own.
fn shift(vit: &Vit) -> Option<Vec<(f32, f32)>> {
    let (mean, std) = (vit.stated().mean.as_ref()?, vit.stated().std.as_ref()?);
    if mean.len() == 1 {
        return Some(vec![(1. / std[0], -mean[0] / std[0])]);
    }
    if mean.len() != 3 || mean[..] == MEAN && std[..] == [IMAGENET_RED, STD[1], STD[2]] {
        return None;
    }
    let of = |c: usize| (STD[c] / std[c], (MEAN[c] - mean[c]) / std[c]);
    Some((0..3).map(of).collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;
    use selfpatch_nn::Params;
    use selfpatch_vit::{Stated, VitConfig};

    fn shown(channels: usize, mean: &[f32], std: &[f32], rgb: [f32; 3]) -> Vec<f32> {
        let config = VitConfig { in_channels: channels, ..VitConfig::new(8, 1, 1, 8).with_image_size(8) };
        let vit = Vit::new(&config, Params::frozen(0).builder(DType::F32, &Device::Cpu)).unwrap();
        let stated = Stated { mean: Some(mean.to_vec()), std: Some(std.to_vec()), ..Stated::default() };
        let pixels: Vec<f32> = (0..3).map(|c| (rgb[c] - MEAN[c]) / STD[c]).collect();
        VitFeatures::new(vit.with_stated(stated), Device::Cpu).shown(&pixels).to_vec()
    }

    #[test]
    fn frames_are_normalised_as_the_backbone_states() {
        let close = |got: &[f32], want: &[f32]| {
            assert!(
                got.len() == want.len() && got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5),
                "{got:?} {want:?}"
            );
        };
        let rgb = [0.25, 0.5, 1.];
        close(&shown(3, &[0.5; 3], &[0.5; 3], rgb), &[-0.5, 0., 1.]);
        // ImageNet's is the protocol's, which has another deviation of red.
        close(&shown(3, &MEAN, &[0.229, 0.224, 0.225], rgb)[..1], &[(0.25 - 0.485) / 0.228]);
        let grey = 0.299 * 0.25 + 0.587 * 0.5 + 0.114;
        close(&shown(1, &[0.5], &[0.25], rgb), &[(grey - 0.5) / 0.25]);
    }
}
