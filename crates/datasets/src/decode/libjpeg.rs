//! JPEG files decoded by libjpeg.

use mozjpeg::{ColorSpace, Decompress};
use std::panic::catch_unwind;

/// The pixels of a JPEG file as grey (1 channel) or RGB (3), as Pillow makes them. The file's size has been
/// found small enough, and its scans whole.
pub(super) fn decode(bytes: &[u8], channels: usize) -> Result<Vec<u8>, String> {
    // The library tells fatal errors by unwinding, past the panic hook; nothing of ours is left half done.
    match catch_unwind(|| pixels(bytes, channels)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(told) => Err(match told.downcast_ref::<String>() {
            Some(text) => text.trim_start_matches("libjpeg fatal error: ").to_string(),
            None => "the JPEG cannot be decoded".into(),
        }),
    }
}

fn pixels(bytes: &[u8], channels: usize) -> std::io::Result<Vec<u8>> {
    let decoder = Decompress::new_mem(bytes)?;
    let four = matches!(decoder.color_space(), ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK);
    let mut started = match channels {
        1 => decoder.grayscale()?,
        _ if four => decoder.to_colorspace(ColorSpace::JCS_CMYK)?,
        _ => decoder.rgb()?,
    };
    let pixels: Vec<u8> = started.read_scanlines()?;
    started.finish()?;
    Ok(if channels != 1 && four { pixels.as_chunks().0.iter().flat_map(from_cmyk).collect() } else { pixels })
}

/// RGB of stored CMYK, whose values Pillow takes for inverted ones in any JPEG file.
fn from_cmyk(&[c, m, y, k]: &[u8; 4]) -> [u8; 3] {
    // Products of bytes divided by 255 and rounded, without a division (Pillow's MULDIV255).
    [c, m, y].map(|ink| {
        let product = u32::from(255 - ink) * u32::from(k) + 128;
        k.saturating_sub((((product >> 8) + product) >> 8) as u8)
    })
}
