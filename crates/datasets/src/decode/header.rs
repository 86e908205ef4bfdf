//! What a file says about itself before it is decoded.

use super::{Decoding, Format, jpeg};
use image::ImageDecoder;
use std::io::Cursor;
use tiff::tags::Tag;

/// The header of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How it is stored.
    pub format: Format,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Values per pixel, alpha included; palettes count as what they stand for.
    pub channels: usize,
    /// Bits per value.
    pub bits: usize,
}

impl Decoding {
    /// The header of the image file `bytes`, or why there is none. An image beyond the limits may
    /// be refused here already.
    pub fn header(&self, bytes: &[u8]) -> Result<Header, String> {
        let format = self.format(bytes)?;
        let (width, height, channels, bits) = match format {
            Format::Jpeg => jpeg::header(bytes)?,
            Format::Tiff => {
                let say = |e: tiff::TiffError| e.to_string();
                let mut decoder = tiff::decoder::Decoder::new(Cursor::new(bytes)).map_err(say)?;
                let (width, height) = decoder.dimensions().map_err(say)?;
                let samples = decoder.find_tag_unsigned::<u16>(Tag::SamplesPerPixel).map_err(say)?.unwrap_or(1);
                let bits = decoder.find_tag_unsigned_vec::<u16>(Tag::BitsPerSample).map_err(say)?.unwrap_or_default();
                let palette = decoder.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation).map_err(say)? == Some(3);
                let channels = if palette { 3 } else { samples.into() };
                (width as usize, height as usize, channels, bits.first().map_or(1, |&b| b.into()))
            }
            _ => {
                let decoder = self.decoder(bytes, format)?;
                let (width, height) = decoder.dimensions();
                let kind = decoder.original_color_type();
                let channels = usize::from(kind.channel_count()).max(1);
                (width as usize, height as usize, channels, usize::from(kind.bits_per_pixel()) / channels)
            }
        };
        Ok(Header { format, width, height, channels, bits })
    }
}
