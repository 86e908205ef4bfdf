//! JPEG files, and whether one is complete, told from its markers.

use super::{Decoding, values};
use crate::{Image, Samples};
use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Decodes a JPEG and its EXIF orientation. Grey files stay grey only where one channel is wanted.
pub(super) fn decode(bytes: &[u8], want: &Decoding) -> Result<(Image, Orientation), String> {
    // The decoder fills what is missing from a truncated file with grey.
    if !reaches_its_end(bytes) {
        return Err("the JPEG is truncated".into());
    }
    let say = |e: zune_jpeg::errors::DecodeErrors| e.to_string();
    let options = DecoderOptions::default().set_strict_mode(true).set_max_width(65_535).set_max_height(65_535);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(say)?;
    let (width, height) = decoder.dimensions().ok_or("the JPEG has no size")?;
    want.admit(width as u64, height as u64)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let channels = if grey && !want.is_rgb() { 1 } else { 3 };
    let colours = if channels == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options.jpeg_set_out_colorspace(colours));
    let pixels = decoder.decode().map_err(say)?;
    let exif = decoder.exif().and_then(|chunk| Orientation::from_exif_chunk(chunk));
    let image = match want.is_rgb() {
        true => Image { width, height, channels, samples: Samples::Bytes(pixels) },
        false => values::from_bytes((width, height, channels), pixels, want)?,
    };
    Ok((image, exif.unwrap_or(Orientation::NoTransforms)))
}

/// Whether walking the segments of `bytes` arrives at the end-of-image marker.
///
/// Embedded thumbnails have an end marker of their own, so segments are skipped by their
/// length instead of searching for the marker anywhere.
fn reaches_its_end(bytes: &[u8]) -> bool {
    let mut at = 2; // behind the start marker ff d8
    loop {
        // Entropy-coded data and padding run up to the next ff; ff00, restart markers and
        // repeated ff are part of them.
        let Some(skip) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xff)) else {
            return false;
        };
        at += skip + 1;
        match bytes.get(at) {
            None => return false,
            Some(0xd9) => return true,
            Some(0xff) => {}
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(_) => {
                let Some(&[high, low]) = bytes.get(at + 1..at + 3) else {
                    return false;
                };
                at += 1 + usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::reaches_its_end;

    #[test]
    fn the_end_marker_of_a_thumbnail_does_not_count() {
        let thumbnail = b"\xff\xd8\xff\xe1\x00\x06\xff\xd9\x00\x00";
        assert!(!reaches_its_end(thumbnail));
        let mut whole = thumbnail.to_vec();
        whole.extend(b"\xff\xda\x00\x02\x12\xff\x00\x34\xff\xd0\x56\xff\xd9");
        assert!(reaches_its_end(&whole));
        assert!((0..whole.len()).all(|cut| !reaches_its_end(&whole[..cut])));
    }
}
