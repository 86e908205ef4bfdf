//! JPEG files.

use super::values::{self, Stored};
use super::{Decoding, Notes, libjpeg, scan};
use crate::{Image, Samples};
use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Columns, rows, channels and bits.
pub(super) fn header(bytes: &[u8]) -> Result<(usize, usize, usize, usize), String> {
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), DecoderOptions::default());
    decoder.decode_headers().map_err(|e| e.to_string())?;
    let info = decoder.info().ok_or("the JPEG has no size")?;
    Ok((info.width.into(), info.height.into(), info.components.into(), 8))
}

/// Decodes a JPEG and its EXIF orientation. Grey files stay grey only where one channel is wanted.
pub(super) fn decode(bytes: &[u8], want: &Decoding) -> Result<(Image, Orientation, Notes), String> {
    let say = |e: zune_jpeg::errors::DecodeErrors| e.to_string();
    let options = DecoderOptions::default().set_strict_mode(true).set_max_width(65_535).set_max_height(65_535);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let headers = decoder.decode_headers();
    let (width, height) = decoder.dimensions().unwrap_or_default();
    want.admit(width as u64, height as u64)?;
    // Before the decoder has its say, which may be that half of a file is an image.
    scan::check(bytes)?;
    headers.map_err(say)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let channels = if grey && !want.is_rgb() { 1 } else { 3 };
    let colours = if channels == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
    let pixels = match want.exact_jpeg {
        true => libjpeg::decode(bytes, channels)?,
        false => {
            decoder.set_options(options.jpeg_set_out_colorspace(colours));
            decoder.decode().map_err(say)?
        }
    };
    let exif = decoder.exif().and_then(|chunk| Orientation::from_exif_chunk(chunk));
    let (image, notes) = match want.is_rgb() {
        true => (Image { width, height, channels, samples: Samples::Bytes(pixels) }, Notes::default()),
        false => values::used((width, height, channels), Stored::Bytes(pixels), want)?,
    };
    Ok((image, exif.unwrap_or(Orientation::NoTransforms), notes))
}
