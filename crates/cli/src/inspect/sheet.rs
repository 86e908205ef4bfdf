//! Some images with the views that training draws from them, on one picture.

use anyhow::{Context, Result};
use image::imageops::{FilterType, overlay, resize};
use image::{Rgb, RgbImage};
use selfpatch_datasets::{Decoding, Drawn, Image, ImageSource, MultiCrop, Picture, Pillow, Samples};
use std::time::{Duration, Instant};

/// Longest side of an original on the sheet, in pixels.
const ORIGINAL: u32 = 256;
/// Pixels between two pictures.
const GAP: u32 = 6;
/// Local views above each other.
const LOCAL_ROWS: usize = 2;

/// An image and its views of epoch 0.
pub struct Example {
    pub name: String,
    /// Columns and rows before it was made smaller.
    pub size: (usize, usize),
    pub original: RgbImage,
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

/// Makes the views of image `index` as the loader does in epoch 0; adds the time of each stage to `times`.
/// An error tells why the image cannot be used.
pub fn example(
    source: &dyn ImageSource,
    index: usize,
    (decoding, pillow): (&Decoding, Pillow),
    (crops, seed): (&MultiCrop, u64),
    times: &mut [Duration; 3],
) -> Result<Example, String> {
    let mut begun = Instant::now();
    let mut lap = |stage: usize| times[stage] += std::mem::replace(&mut begun, Instant::now()).elapsed();
    let content = source.read(index).map_err(|e| e.to_string())?;
    lap(0);
    let (image, _) = decoding.content(content)?;
    lap(1);
    let picture = Picture::of(&image).ok_or("the image is not whole")?.resized_as(pillow);
    let drawn = crops.draw_all(picture.shape(), seed, 0, source.id(index));
    let views: Vec<(Drawn, Samples)> = drawn.into_iter().map(|d| (d.clone(), picture.view(&d))).collect();
    lap(2);
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
fn fitted(width: u32, height: u32, most: u32) -> (u32, u32) {
    let longest = u64::from(width.max(height).max(1));
    let of = |side: u32| (u64::from(side) * u64::from(most) / longest).max(1) as u32;
    if longest <= u64::from(most) { (width, height) } else { (of(width), of(height)) }
}

/// The colour of the frame that shows where a view comes from, by the number of the view.
pub fn colour(view: usize, globals: usize) -> [u8; 3] {
    const GLOBAL: [[u8; 3]; 2] = [[255, 140, 0], [0, 200, 255]];
    if view < globals { GLOBAL[view % 2] } else { [255, 255, 255] }
}

/// All examples below each other: the original with the frames of its views, the global views, the local
/// ones.
pub fn sheet(examples: &[Example], globals: usize) -> Result<RgbImage> {
    let rows: Vec<RgbImage> = examples.iter().map(|e| row(e, globals)).collect();
    let width = rows.iter().map(RgbImage::width).max().context("there is nothing to show")?;
    let height = rows.iter().map(|r| r.height() + GAP).sum::<u32>();
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([24; 3]));
    let mut top = 0;
    for row in &rows {
        overlay(&mut sheet, row, 0, i64::from(top));
        top += row.height() + GAP;
    }
    Ok(sheet)
}

fn row(example: &Example, globals: usize) -> RgbImage {
    let shown = |view: &RgbImage| {
        let (w, h) = fitted(view.width(), view.height(), ORIGINAL);
        if (w, h) == view.dimensions() { view.clone() } else { resize(view, w, h, FilterType::Triangle) }
    };
    let framed = framed(example, globals);
    let mut columns: Vec<Vec<RgbImage>> = vec![vec![framed]];
    let (global, local) = example.views.split_at(globals.min(example.views.len()));
    columns.extend(global.iter().map(|(_, v)| vec![shown(v)]));
    columns.extend(local.chunks(LOCAL_ROWS).map(|c| c.iter().map(|(_, v)| shown(v)).collect()));
    let wide = |c: &Vec<RgbImage>| c.iter().map(RgbImage::width).max().unwrap_or(0) + GAP;
    let high = |c: &Vec<RgbImage>| c.iter().map(|v| v.height() + GAP).sum::<u32>();
    let (width, height) = (columns.iter().map(wide).sum(), columns.iter().map(high).max().unwrap_or(1));
    let mut row = RgbImage::from_pixel(width, height, Rgb([24; 3]));
    let mut left = 0;
    for column in &columns {
        let mut top = 0;
        for view in column {
            overlay(&mut row, view, i64::from(left), top);
            top += i64::from(view.height() + GAP);
        }
        left += wide(column);
    }
    row
}

/// The original with a frame where each view comes from.
fn framed(example: &Example, globals: usize) -> RgbImage {
    let mut picture = example.original.clone();
    let (width, height) = picture.dimensions();
    let scale = |v: usize, of: usize, to: u32| (v as u64 * u64::from(to - 1) / of.max(1) as u64) as u32;
    // The globals last, on top.
    for (number, (drawn, _)) in example.views.iter().enumerate().rev() {
        let w = drawn.window;
        let (left, right) = (scale(w.left, example.size.0, width), scale(w.left + w.width, example.size.0, width));
        let (top, bottom) = (scale(w.top, example.size.1, height), scale(w.top + w.height, example.size.1, height));
        let colour = Rgb(colour(number, globals));
        (left..=right).for_each(|x| [top, bottom].iter().for_each(|&y| picture.put_pixel(x, y, colour)));
        (top..=bottom).for_each(|y| [left, right].iter().for_each(|&x| picture.put_pixel(x, y, colour)));
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfpatch_datasets::ProceduralImages;

    #[test]
    fn a_sheet_shows_every_view() {
        let source = ProceduralImages::new(0, 3, 96);
        let crops = MultiCrop::procedural();
        let mut times = [Duration::ZERO; 3];
        let example = |i| {
            {
                let how = (&Decoding::default(), Pillow::V12);
                example(&source, i, how, (&crops, 7), &mut times)
            }
            .map_err(anyhow::Error::msg)
            .unwrap()
        };
        let examples: Vec<Example> = (0..2).map(example).collect();
        assert_eq!(examples[0].views.len(), 6);
        // 96 for the original, two of 48, four of 24 in two columns, and a gap behind each.
        let sheet = sheet(&examples, 2).unwrap();
        assert_eq!(sheet.dimensions(), (96 + 2 * 48 + 2 * 24 + 5 * GAP, 2 * (96 + 2 * GAP)));
        // The first global view stands where it should, unchanged.
        let at = image::imageops::crop_imm(&sheet, 96 + GAP, 0, 48, 48).to_image();
        assert_eq!(at, examples[0].views[0].1);
    }

    #[test]
    fn long_images_fit() {
        assert_eq!(fitted(100, 50, 256), (100, 50));
        assert_eq!(fitted(1000, 500, 256), (256, 128));
        assert_eq!(fitted(100_000, 3, 256), (256, 1));
    }
}
