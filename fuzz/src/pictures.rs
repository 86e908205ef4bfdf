//! Image files.

mod seeds;

pub use seeds::{bmp, jpeg, png, tiff, webp};

use selfpatch_datasets::Decoding;

/// Most pixels: enough for every whole file here, and for none of the sizes that mutants claim.
const MAX_PIXELS: u64 = 1 << 22;

/// Reads the header of an image file, and decodes it in each way that settings allow.
pub fn read(bytes: &[u8]) -> bool {
    let usual = Decoding { max_pixels: MAX_PIXELS, ..Decoding::default() };
    let exact = Decoding { exact_jpeg: true, ..usual.clone() };
    let bands =
        |channels, range: Option<[f32; 2]>| Decoding { channels, range: range.map(Into::into), ..usual.clone() };
    let ways = [exact, bands(1, None), bands(3, Some([0., 255.])), bands(4, Some([0., 65_535.])), usual.clone()];
    // All of them, whichever comes first.
    let accepted = ways.iter().filter(|way| way.image(bytes).is_ok()).count();
    let raw = usual.raw(bytes);
    usual.header(bytes).is_ok() && raw.is_ok() && accepted > 0
}
