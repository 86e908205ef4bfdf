//! How an image file says that it is to be turned.

use super::Decoding;
use image::ImageDecoder;
use image::metadata::Orientation;

impl Decoding {
    /// The orientation (EXIF) that the image file `bytes` gives, from its header; upright where it gives none that
    /// can be read.
    pub(crate) fn orientation(&self, bytes: &[u8]) -> Orientation {
        let decoder = self.format(bytes).and_then(|format| self.decoder(bytes, format));
        decoder.ok().and_then(|mut decoder| decoder.orientation().ok()).unwrap_or(Orientation::NoTransforms)
    }
}

/// Whether rows become columns when an image of this orientation is turned upright.
pub(crate) fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation::*;
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}
