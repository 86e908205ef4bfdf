//! Conversion of a decoded frame to the model's input, and of the first mask to the labels that are propagated.

use crate::resize::pillow_nearest;
use crate::{Error, VOID};
use selfpatch_datasets::{Mask, Rgb};

/// Channel means of the pixel normalisation, in units of full scale (ImageNet).
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Channel standard deviations of the pixel normalisation; the reference has 0.228 for red here, not ImageNet's
/// 0.229.
pub const STD: [f32; 3] = [0.228, 0.224, 0.225];

/// The size at which the model sees a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameSize {
    /// The short side gets this many pixels, the long side keeps the aspect ratio and is then
    /// floored to a multiple of 64: 854 x 480 becomes 832 x 480 with `ShortSide(480)`, the protocol's value. As in
    /// the reference, a frame that is barely wider than high is floored to the multiple below (481 x 480 becomes 448
    /// x 480).
    ///
    /// The reference turns square frames into 448 x 480 but places their mask on a transposed grid of 28 x 30, and
    /// fails. Here a square frame becomes 480 x 480.
    ShortSide(usize),
    /// The frame's own size.
    Native,
}

impl Default for FrameSize {
    fn default() -> Self {
        Self::ShortSide(480)
    }
}

impl FrameSize {
    /// Width and height at which a model with patches of `patch` pixels sees a frame of `width x height`. The model
    /// has to leave out pixels beyond the last whole patch.
    ///
    /// # Errors
    /// [`Error::Config`] if a side would not hold one patch.
    pub fn of(self, width: usize, height: usize, patch: usize) -> Result<(usize, usize), Error> {
        let (w, h) = match self {
            Self::Native => (width, height),
            Self::ShortSide(short) => {
                let long =
                    |long: usize, side: usize| (short * long).checked_div(side).unwrap_or(0) / LONG_STEP * LONG_STEP;
                match width.cmp(&height) {
                    std::cmp::Ordering::Greater => (long(width, height), short),
                    std::cmp::Ordering::Less => (short, long(height, width)),
                    std::cmp::Ordering::Equal => (short, short),
                }
            }
        };
        if patch == 0 || width == 0 || height == 0 || w < patch || h < patch {
            return Err(Error::Config {
                field: "frame size",
                reason: format!(
                    "{self:?} makes a frame of {width} x {height} pixels {w} x {h}, less than a patch \
                     of {patch}; choose a larger size"
                ),
            });
        }
        Ok((w, h))
    }
}

/// The long side is a multiple of this; reference: `read_frame`, `(tw // 64) * 64`.
const LONG_STEP: usize = 64;

/// Pixels `[H, W, 3]` in 0..=255 to normalised planes `[3, H, W]`: `(x / 255 - mean) / std`.
pub fn normalise(frame: &Rgb) -> Vec<f32> {
    let mut planes = Vec::with_capacity(frame.pixels.len());
    for (c, (mean, std)) in MEAN.iter().zip(STD).enumerate() {
        let table: [f32; 256] = std::array::from_fn(|x| (x as f32 / 255.0 - mean) / std);
        planes.extend(frame.pixels.chunks_exact(3).map(|rgb| table[usize::from(rgb[c])]));
    }
    planes
}

/// The first mask on the token grid, one plane per id: `[C, grid_h, grid_w]` of 0 and 1.
///
/// `C` is one more than the highest id that survives downsampling, as in the reference: a last object that falls
/// between the samples gets no plane and is lost. [`VOID`] counts as background (the reference would make 256 planes
/// of it).
///
/// # Errors
/// [`Error::Shape`] if the mask is not filled or the grid is empty.
pub fn first_mask(mask: &Mask, grid_h: usize, grid_w: usize) -> Result<Vec<f32>, Error> {
    let mut ids = pillow_nearest(&mask.ids, mask.width, mask.height, grid_w, grid_h)?;
    for id in ids.iter_mut().filter(|id| **id == VOID) {
        *id = 0;
    }
    let highest = ids.iter().copied().max().unwrap_or(0);
    Ok((0..=highest).flat_map(|c| ids.iter().map(move |&id| f32::from(u8::from(id == c)))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_reference() {
        let size = FrameSize::ShortSide(480);
        for (w, h, expected) in [
            (854, 480, (832, 480)),
            (1920, 1080, (832, 480)),
            (480, 854, (480, 832)),
            (910, 480, (896, 480)),
            (640, 480, (640, 480)),
            (481, 480, (448, 480)),
            (300, 300, (480, 480)),
        ] {
            assert_eq!(size.of(w, h, 16).unwrap(), expected, "{w} x {h}");
        }
        assert_eq!(FrameSize::Native.of(130, 128, 8).unwrap(), (130, 128));
        assert!(FrameSize::Native.of(10, 128, 16).is_err());
        assert!(FrameSize::ShortSide(32).of(60, 40, 8).is_err());
        assert!(size.of(0, 0, 16).is_err());
        assert!(size.of(854, 480, 0).is_err());
    }

    #[test]
    fn normalisation_is_planar() {
        let frame = Rgb { width: 2, height: 1, pixels: vec![0, 51, 102, 255, 204, 153] };
        let planes = normalise(&frame);
        let expected = [-0.485 / 0.228, 0.515 / 0.228, -0.256 / 0.224, 0.344 / 0.224, -0.006 / 0.225, 0.194 / 0.225];
        for (got, want) in planes.iter().zip(expected) {
            assert!((got - want).abs() < 1e-6, "{got} {want}"); // f32 rounding of values near 1
        }
    }

    #[test]
    fn the_last_object_can_vanish() {
        let mut ids = vec![0; 64];
        // Of 8 rows and columns, the second and the sixth are sampled for a grid of 2 x 2.
        ids[18] = 1; // row 2, column 2
        ids[0] = 2;
        ids[22] = VOID; // row 2, column 6
        let mask = Mask { width: 8, height: 8, ids };
        assert_eq!(first_mask(&mask, 2, 2).unwrap(), [0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(first_mask(&mask, 8, 8).unwrap().len(), 3 * 64);
    }
}
