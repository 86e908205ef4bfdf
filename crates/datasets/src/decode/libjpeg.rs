//! JPEG files decoded by libjpeg.

use mozjpeg::{ColorSpace, Decompress};
use std::panic::catch_unwind;

/// The pixels of a JPEG file as grey (1 channel) or RGB (3), as Pillow makes them. The file's size has been
/// found small enough, and its scans whole.
pub(super) fn decode(bytes: &[u8], channels: usize) -> Result<Vec<u8>, String> {
    caught(|| pixels(bytes, channels))
}

/// Samples of a JPEG inside another file.
pub(super) struct Stored {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    /// Row by row, the channels of a pixel side by side.
    pub samples: Vec<u8>,
}

/// A JPEG inside another file as it is stored, or as RGB if `to_rgb` says that its samples are brightness and
/// differences of colour. Its scans have been found whole.
pub(super) fn samples(bytes: &[u8], to_rgb: bool) -> Result<Stored, String> {
    caught(|| {
        let decoder = Decompress::new_mem(bytes)?;
        let (width, height) = decoder.size();
        let (channels, stored) = (decoder.components().len(), decoder.color_space());
        let mut started = decoder.to_colorspace(if to_rgb { ColorSpace::JCS_RGB } else { stored })?;
        let samples: Vec<u8> = started.read_scanlines()?;
        started.finish()?;
        Ok(Stored { width, height, channels, samples })
    })
}

/// What the library says, its errors as text.
fn caught<T>(of: impl FnOnce() -> std::io::Result<T> + std::panic::UnwindSafe) -> Result<T, String> {
    // The library tells fatal errors by unwinding, past the panic hook; nothing of ours is left half done.
    match catch_unwind(of) {
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
    Ok(if channels != 1 && four { pixels.as_chunks().0.iter().flat_map(from_inverted_cmyk).collect() } else { pixels })
}

/// RGB of stored CMYK, whose values Pillow takes for inverted ones in any JPEG file.
fn from_inverted_cmyk(inks: &[u8; 4]) -> [u8; 3] {
    from_cmyk(inks.map(|ink| 255 - ink))
}

/// RGB of the amounts of four inks, as Pillow converts them.
pub(super) fn from_cmyk([c, m, y, black]: [u8; 4]) -> [u8; 3] {
    let light = 255 - black;
    // Products of bytes divided by 255 and rounded, without a division (Pillow's MULDIV255).
    [c, m, y].map(|ink| {
        let product = u32::from(ink) * u32::from(light) + 128;
        light.saturating_sub((((product >> 8) + product) >> 8) as u8)
    })
}
