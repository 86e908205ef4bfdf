//! Any picture as 8-bit RGB, as Pillow's `convert("RGB")` makes it.

use super::Notes;
use super::cut::cut;
use crate::{Image, Samples};
use image::DynamicImage;

/// Drops alpha, repeats grey, keeps the high byte of 16-bit colour, and cuts 16-bit grey and floats off
/// at 255. `is_grey` says that the file has no alpha of its own, only a grey that is to be transparent.
pub(super) fn from(image: DynamicImage, is_grey: bool) -> (Image, Notes) {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let high = |v: u16| (v >> 8) as u8;
    let kind = image.color();
    let mut notes = Notes { unused: usize::from(kind.has_alpha()), ..Notes::default() };
    if kind.bytes_per_pixel() > kind.channel_count() {
        notes.bits = usize::from(kind.bits_per_pixel() / u16::from(kind.channel_count()));
    }
    // Pillow keeps 16-bit grey as integers and floats as they are, and cuts both off.
    let mut cut = |v: f32| cut(v, &mut notes.cut);
    let pixels = match image {
        DynamicImage::ImageLuma16(i) => i.pixels().flat_map(|p| [cut(p[0].into()); 3]).collect(),
        DynamicImage::ImageLumaA16(i) if is_grey => i.pixels().flat_map(|p| [cut(p[0].into()); 3]).collect(),
        DynamicImage::ImageLumaA16(i) => i.pixels().flat_map(|p| [high(p[0]); 3]).collect(),
        DynamicImage::ImageRgb16(i) => i.pixels().flat_map(|p| p.0.map(high)).collect(),
        DynamicImage::ImageRgba16(i) => i.pixels().flat_map(|p| [high(p[0]), high(p[1]), high(p[2])]).collect(),
        DynamicImage::ImageRgb32F(i) => i.pixels().flat_map(|p| p.0.map(&mut cut)).collect(),
        DynamicImage::ImageRgba32F(i) => i.pixels().flat_map(|p| [p[0], p[1], p[2]].map(&mut cut)).collect(),
        other => other.into_rgb8().into_raw(),
    };
    (Image { width, height, channels: 3, samples: Samples::Bytes(pixels) }, notes)
}
