//! The values of a file before anything is made of them.

use super::values::{self, Stored};
use super::{Decoding, Format, jpeg};

/// The values of an image file as it holds them, whatever their number and depth.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Values per pixel; palettes count as red, green and blue.
    pub channels: usize,
    /// Bits per value.
    pub bits: usize,
    /// Whether values have at most 8 bits without a sign.
    pub bytes: bool,
    /// `[H, W, C]` row-major, exact up to 24 bits.
    pub values: Vec<f32>,
}

impl Decoding {
    /// The values that an image file holds, within the limits of `self`, whose channels and range do not matter.
    pub fn raw(&self, bytes: &[u8]) -> Result<Raw, String> {
        let format = self.format(bytes)?;
        // Nothing is converted for those who ask for a range.
        let plain = Self { range: Some([0., 1.].into()), ..self.clone() };
        let ((width, height, channels), stored, bits) = match format {
            Format::Tiff => super::tiff::stored(bytes, &plain)?,
            Format::Jpeg => {
                let (_, _, components, _) = jpeg::header(bytes)?;
                let channels = if components == 1 { 1 } else { 3 };
                let bytes_of = Self { channels, range: None, ..self.clone() };
                let (image, _, _) = jpeg::decode(bytes, &bytes_of)?;
                let crate::Samples::Bytes(pixels) = image.samples else { return Err("holds no bytes".into()) };
                ((image.width, image.height, image.channels), Stored::Bytes(pixels), 8)
            }
            _ => values::from(self.picture(bytes, format)?.0),
        };
        let (values, bytes) = match stored {
            Stored::Bytes(v) => (v.into_iter().map(f32::from).collect(), true),
            Stored::Wide(v) => (v, false),
        };
        Ok(Raw { width, height, channels, bits, bytes, values })
    }
}
