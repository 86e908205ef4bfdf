//! What is made of an image file, and what is refused.

use super::Range;

/// What is made of a file, and what is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoding {
    /// Values per pixel. 3 without a `range` means RGB: whatever a file holds is converted.
    pub channels: usize,
    /// The values that become 0 and 1. Without it values are bytes.
    pub range: Option<Range>,
    /// Turn and mirror as the file's EXIF orientation says; the published program does not. TIFF files that are
    /// read as RGB are turned in any case, because Pillow does so when it opens them.
    pub exif: bool,
    /// Decode JPEG files by libjpeg, as Pillow and OpenCV do, to the same bytes; at half the speed of the
    /// usual decoder, whose bytes differ by a few levels.
    pub exact_jpeg: bool,
    /// Most pixels of an image; larger claims come from broken or hostile headers.
    pub max_pixels: u64,
    /// Most bytes of a file.
    pub max_bytes: u64,
}

impl Default for Decoding {
    /// RGB bytes of at most 178,956,970 pixels (where Pillow, too, refuses) from files of at most 1 GiB.
    fn default() -> Self {
        Self { channels: 3, range: None, exif: true, exact_jpeg: false, max_pixels: 178_956_970, max_bytes: 1 << 30 }
    }
}

impl Decoding {
    /// Whether images are 8-bit RGB, on which every augmentation works.
    pub fn is_rgb(&self) -> bool {
        self.channels == 3 && self.range.is_none()
    }

    /// Refuses sides that multiply to too many pixels.
    pub(super) fn admit(&self, width: u64, height: u64) -> Result<(), String> {
        if width.saturating_mul(height) > self.max_pixels {
            let most = self.max_pixels;
            return Err(format!("{width} x {height} pixels are more than {most} (data.max_pixels)"));
        }
        Ok(())
    }
}
