//! Bicubic resizing of a window of an image, antialiased as in Pillow.

use fast_image_resize::images::{CroppedImage, Image, ImageRef};
use fast_image_resize::{FilterType, IntoImageView, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::crop::Window;
use crate::Rgb;

/// The window of `image` as `size` x `size` interleaved pixels.
///
/// As in Pillow, the horizontal pass comes first and is rounded to bytes, and pixels outside of
/// the window have no influence.
pub(super) fn bicubic(image: &Rgb, window: Window, size: usize) -> Vec<u8> {
    let black = || vec![0; size * size * 3];
    // Nothing below fails on a window inside a whole image; all sides fit into 32 bits there,
    // since decoders stop at 16384.
    resized(image, window, size).unwrap_or_else(black)
}

fn resized(image: &Rgb, window: Window, size: usize) -> Option<Vec<u8>> {
    let side = |n: usize| u32::try_from(n).ok();
    let (size, height) = (side(size)?, side(window.height)?);
    let whole = ImageRef::new(side(image.width)?, side(image.height)?, &image.pixels, PixelType::U8x3).ok()?;
    let (left, top, width) = (side(window.left)?, side(window.top)?, side(window.width)?);
    let cropped = CroppedImage::new(&whole, left, top, width, height).ok()?;
    let mut resizer = Resizer::new();
    let narrow = one_pass(&mut resizer, &cropped, size, height)?;
    Some(one_pass(&mut resizer, &narrow, size, size)?.into_vec())
}

/// `source` at another width or another height.
fn one_pass(resizer: &mut Resizer, source: &impl IntoImageView, width: u32, height: u32) -> Option<Image<'static>> {
    // Catmull and Rom's spline is Pillow's bicubic filter: a = -0.5.
    let cubic = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    let mut out = Image::new(width, height, PixelType::U8x3);
    resizer.resize(source, &mut out, &cubic).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unscaled_window_is_a_copy() {
        let pixels: Vec<u8> = (0..8 * 6 * 3).map(|v| v as u8).collect();
        let image = Rgb { width: 8, height: 6, pixels };
        let got = bicubic(&image, Window { left: 3, top: 1, width: 4, height: 4 }, 4);
        let want: Vec<u8> = (1..5).flat_map(|y| image.pixels[(y * 8 + 3) * 3..(y * 8 + 7) * 3].to_vec()).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn pixels_outside_of_the_window_do_not_leak_in() {
        let mut pixels = vec![255; 20 * 20 * 3];
        for y in 5..15 {
            pixels[(y * 20 + 5) * 3..(y * 20 + 15) * 3].fill(100);
        }
        let image = Rgb { width: 20, height: 20, pixels };
        let window = Window { left: 5, top: 5, width: 10, height: 10 };
        for size in [3, 7, 33] {
            assert_eq!(bicubic(&image, window, size), vec![100; size * size * 3]);
        }
    }

    #[test]
    fn doubling_an_edge_gives_the_weights_of_the_cubic() {
        // Columns 0 0 0 0 200 200 200 200 at twice the width against the plain formula.
        let cubic = |x: f64| {
            let x = x.abs();
            if x < 1.0 { 1.5 * x.powi(3) - 2.5 * x * x + 1.0 } else { -0.5 * x.powi(3) + 2.5 * x * x - 4.0 * x + 2.0 }
        };
        let pixels = (0..64).flat_map(|i| [if i % 8 < 4 { 0u8 } else { 200 }; 3]).collect();
        let image = Rgb { width: 8, height: 8, pixels };
        let got = bicubic(&image, Window { left: 0, top: 0, width: 8, height: 8 }, 16);
        for x in 4..12 {
            let centre = (x as f64 + 0.5) / 2.0 - 0.5;
            let first = centre.floor() as i32 - 1;
            let value: f64 = (first..first + 4).filter(|&k| k >= 4).map(|k| 200.0 * cubic(f64::from(k) - centre)).sum();
            let want = value.clamp(0.0, 255.0);
            assert!((f64::from(got[x * 3]) - want).abs() <= 1.0, "column {x}: {} {want}", got[x * 3]);
        }
    }
}
