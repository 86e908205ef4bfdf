//! An image and what training makes of it.

use image::{Rgb, RgbImage};
use selfpatch_datasets::{Decoding, Drawn, Image, ImageSource, MultiCrop, Picture, Pillow, Samples};

/// Longest side of an original on the sheet, in pixels.
pub(super) const ORIGINAL: u32 = 256;

/// An image and its views of epoch 0.
pub struct Example {
    /// Name of the image.
    pub name: String,
    /// Columns and rows before it was made smaller.
    pub size: (usize, usize),
    /// The image, made smaller.
    pub original: RgbImage,
    /// What was drawn for each view, and the view.
    pub views: Vec<(Drawn, RgbImage)>,
}

/// Where the time of an image goes.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Stages {
    /// Milliseconds to get the bytes.
    pub read: f64,
    /// To decode them.
    pub decode: f64,
    /// To crop, resize and change all views.
    pub views: f64,
}

/// How images are decoded and their views drawn.
pub struct Shown<'a> {
    /// How files are decoded.
    pub decoding: &'a Decoding,
    /// The version of Pillow whose resizing is followed.
    pub pillow: Pillow,
    /// The views.
    pub crops: &'a MultiCrop,
    /// Seed of what is drawn.
    pub seed: u64,
}

/// Makes the views of image `index` as the loader does in epoch 0. `done` is called when it is read (0), decoded (1)
/// and when its views are made (2).
///
/// # Errors
/// Why the image cannot be used.
pub fn example(
    source: &dyn ImageSource,
    index: usize,
    how: &Shown,
    done: &mut dyn FnMut(usize),
) -> Result<Example, String> {
    let content = source.read(index).map_err(|e| e.to_string())?;
    done(0);
    let (image, _) = how.decoding.content(content)?;
    done(1);
    let picture = Picture::of(&image).ok_or("the image is not whole")?.resized_as(how.pillow);
    let drawn = how.crops.draw_all(picture.shape(), how.seed, 0, source.id(index));
    let views: Vec<(Drawn, Samples)> = drawn.into_iter().map(|d| (d.clone(), picture.view(&d))).collect();
    done(2);
    let views = views.into_iter().map(|(drawn, v)| {
        let shown = shown(&v, (drawn.size, drawn.size, image.channels), |p, c| c * drawn.size * drawn.size + p);
        (drawn, shown)
    });
    Ok(Example {
        name: source.name(index),
        size: (image.width, image.height),
        original: thumbnail(&image),
        views: views.collect(),
    })
}

/// Values as colours: the first three channels, or the first one as grey. `at` tells where a channel of a
/// pixel is.
fn shown(
    values: &Samples,
    (width, height, channels): (usize, usize, usize),
    at: impl Fn(usize, usize) -> usize,
) -> RgbImage {
    let value = |i: usize| match values {
        Samples::Bytes(v) => v[i],
        Samples::Floats(v) => (v[i] * 255.).round() as u8,
    };
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let pixel = y as usize * width + x as usize;
        Rgb([0, 1, 2].map(|c| value(at(pixel, if channels < 3 { 0 } else { c }))))
    })
}

fn thumbnail(image: &Image) -> RgbImage {
    let whole = shown(&image.samples, (image.width, image.height, image.channels), |p, c| p * image.channels + c);
    let (width, height) = fitted(image.width as u32, image.height as u32, ORIGINAL);
    image::imageops::thumbnail(&whole, width, height)
}

/// Sides of an image that fits into a square of `most` pixels.
pub(super) fn fitted(width: u32, height: u32, most: u32) -> (u32, u32) {
    let longest = u64::from(width.max(height).max(1));
    let of = |side: u32| (u64::from(side) * u64::from(most) / longest).max(1) as u32;
    if longest <= u64::from(most) { (width, height) } else { (of(width), of(height)) }
}

/// The colour of the frame that shows where a view comes from, by the number of the view.
pub fn colour(view: usize, globals: usize) -> [u8; 3] {
    const GLOBAL: [[u8; 3]; 2] = [[255, 140, 0], [0, 200, 255]];
    if view < globals { GLOBAL[view % 2] } else { [255, 255, 255] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_images_fit() {
        assert_eq!(fitted(100, 50, 256), (100, 50));
        assert_eq!(fitted(1000, 500, 256), (256, 128));
        assert_eq!(fitted(100_000, 3, 256), (256, 1));
    }
}
