//! Frames that show nearly the same as the one before them.

use crate::file::contents;
use crate::{Decoding, Image, Samples};
use std::fs;
use std::path::PathBuf;

/// Cells along each side of an image.
const CELLS: usize = 32;

/// Removes those of `files`, in their order, in which the mean of no cell of a grid of 32 x 32 differs from the last
/// file that stays by `levels` or more of 255. Returns how many; `None` if `stop` said so before the end. What cannot
/// be decoded stays.
pub(super) fn remove_alike(files: &[PathBuf], levels: f32, stop: &dyn Fn() -> bool) -> Option<usize> {
    let mut last: Option<Vec<f32>> = None;
    let mut removed = 0;
    for file in files {
        if stop() {
            return None;
        }
        let image = contents(file).ok().and_then(|bytes| Decoding::default().image(&bytes).ok());
        let Some(cells) = image.as_ref().and_then(cells) else { continue };
        let alike =
            |last: &Vec<f32>| last.len() == cells.len() && last.iter().zip(&cells).all(|(a, b)| (a - b).abs() < levels);
        if last.as_ref().is_some_and(alike) && fs::remove_file(file).is_ok() {
            removed += 1;
        } else {
            last = Some(cells);
        }
    }
    Some(removed)
}

/// Mean of each channel in each cell.
fn cells(image: &Image) -> Option<Vec<f32>> {
    let Samples::Bytes(values) = &image.samples else { return None };
    let (width, height, channels) = (image.width, image.height, image.channels);
    let (columns, rows) = (width.min(CELLS), height.min(CELLS));
    let (mut sums, mut counts) = (vec![0_u64; columns * rows * channels], vec![0_u64; columns * rows]);
    for (y, row) in values.chunks_exact(width * channels).enumerate() {
        for (x, pixel) in row.chunks_exact(channels).enumerate() {
            let cell = y * rows / height * columns + x * columns / width;
            counts[cell] += 1;
            sums[cell * channels..][..channels].iter_mut().zip(pixel).for_each(|(sum, v)| *sum += u64::from(*v));
        }
    }
    let mean = |(place, sum): (usize, &u64)| *sum as f32 / counts[place / channels] as f32;
    Some(sums.iter().enumerate().map(mean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_without_news_go() {
        let folder = std::env::temp_dir().join(format!("selfpatch-alike-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // Brightness, and whether there is something in a corner.
        let frames = [(100, false), (101, false), (100, true), (100, true), (102, true), (104, true), (100, false)];
        let mut files = Vec::new();
        for (number, (value, corner)) in frames.into_iter().enumerate() {
            let shade = |x: u32, y: u32| if corner && x < 8 && y < 8 { 160 } else { value };
            let picture = image::RgbImage::from_fn(320, 200, |x, y| image::Rgb([shade(x, y); 3]));
            files.push(folder.join(format!("{number}.png")));
            picture.save(files.last().unwrap()).unwrap();
        }
        assert_eq!(remove_alike(&files, 3., &|| true), None);
        assert_eq!(remove_alike(&files, 3., &|| false), Some(3));
        let stays: Vec<bool> = files.iter().map(|file| file.exists()).collect();
        assert_eq!(stays, [true, false, true, false, false, true, true]);
        fs::remove_dir_all(folder).unwrap();
    }
}
