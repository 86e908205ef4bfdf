//! Some images with the views that training draws from them, on one picture.

use super::example::{Example, ORIGINAL, colour, fitted};
use image::imageops::{FilterType, overlay, resize};
use image::{Rgb, RgbImage};

/// Pixels between two pictures.
const GAP: u32 = 6;
/// Local views above each other.
const LOCAL_ROWS: usize = 2;

/// All examples below each other: the original with the frames of its views, the global views, the local
/// ones. `None` without examples.
pub fn sheet(examples: &[Example], globals: usize) -> Option<RgbImage> {
    let rows: Vec<RgbImage> = examples.iter().map(|e| row(e, globals)).collect();
    let width = rows.iter().map(RgbImage::width).max()?;
    let height = rows.iter().map(|r| r.height() + GAP).sum::<u32>();
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([24; 3]));
    let mut top = 0;
    for row in &rows {
        overlay(&mut sheet, row, 0, i64::from(top));
        top += row.height() + GAP;
    }
    Some(sheet)
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
    use crate::inspection::example::{Shown, example};
    use selfpatch_datasets::{Decoding, MultiCrop, Pillow, ProceduralImages};

    #[test]
    fn a_sheet_shows_every_view() {
        let source = ProceduralImages::new(0, 3, 96);
        let crops = MultiCrop::procedural();
        let decoding = Decoding::default();
        let how = Shown { decoding: &decoding, pillow: Pillow::V12, crops: &crops, seed: 7 };
        let example = |i| example(&source, i, &how, &mut |_| {}).unwrap();
        let examples: Vec<Example> = (0..2).map(example).collect();
        assert_eq!(examples[0].views.len(), 6);
        // 96 for the original, two of 48, four of 24 in two columns, and a gap behind each.
        let sheet = sheet(&examples, 2).unwrap();
        assert_eq!(sheet.dimensions(), (96 + 2 * 48 + 2 * 24 + 5 * GAP, 2 * (96 + 2 * GAP)));
        // The first global view stands where it should, unchanged.
        let at = image::imageops::crop_imm(&sheet, 96 + GAP, 0, 48, 48).to_image();
        assert_eq!(at, examples[0].views[0].1);
    }
}
