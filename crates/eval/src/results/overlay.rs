//! Masks drawn over frames: single pictures and animations.

use super::whole::temporary;
use crate::VOID;
use crate::error::Error;
use gif::{Encoder, Repeat};
use image::RgbImage;
use image::imageops::{FilterType, resize};
use selfpatch_datasets::{Mask, Rgb, VideoSource, decode_mask};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Share of an object's colour where it covers the frame.
const OPACITY: f32 = 0.45;
/// From this width on an outline is two pixels wide.
const WIDE: usize = 360;
/// Frames of the longest animation; of more, evenly spaced ones are shown.
const MAX_FRAMES: usize = 150;
/// Hundredths of a second that a frame is shown.
const DELAY: u16 = 10;
/// How roughly the colours of an animation are chosen, 1..=30; 10 looks the same as 1.
const ROUGHNESS: i32 = 10;

/// `frame` with every object of `mask` tinted in its colour of `palette` (three bytes for each id) and
/// outlined in its brightest shade: customary palettes are dark. A mask of another size is stretched. Ids without a colour get one of PASCAL VOC.
pub fn blend(frame: &Rgb, mask: &Mask, palette: Option<&[u8]>) -> RgbImage {
    let (width, height) = (frame.width, frame.height);
    let ids = stretched(mask, width, height);
    let reach = if width < WIDE { 1 } else { 2 };
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let (x, y) = (x as usize, y as usize);
        let at = y * width + x;
        let pixel = [0, 1, 2].map(|c| frame.pixels[at * 3 + c]);
        let id = ids[at];
        if id == 0 || id == VOID {
            return image::Rgb(pixel);
        }
        let colour = colour(id, palette);
        let differs = |x: usize, y: usize| x < width && y < height && ids[y * width + x] != id;
        // Differences below zero wrap to something beyond the frame, which is no neighbour.
        let is_edge = (1..=reach).any(|d| {
            differs(x.wrapping_sub(d), y) || differs(x + d, y) || differs(x, y.wrapping_sub(d)) || differs(x, y + d)
        });
        if is_edge {
            return image::Rgb(brightest(colour));
        }
        let mixed = |c: usize| f32::from(pixel[c]) * (1.0 - OPACITY) + f32::from(colour[c]) * OPACITY;
        image::Rgb([0, 1, 2].map(|c| mixed(c).round() as u8))
    })
}

/// The ids of `mask` as if it had `width` x `height` pixels: each is that of the nearest.
fn stretched(mask: &Mask, width: usize, height: usize) -> Vec<u8> {
    let columns: Vec<usize> = (0..width).map(|x| (2 * x + 1) * mask.width / (2 * width)).collect();
    let rows = (0..height).map(|y| (2 * y + 1) * mask.height / (2 * height));
    rows.flat_map(|y| columns.iter().map(move |x| mask.ids[y * mask.width + x])).collect()
}

/// The colour of an object. Those of PASCAL VOC hold three bits of the id each, from the highest on.
fn colour(id: u8, palette: Option<&[u8]>) -> [u8; 3] {
    let at = usize::from(id) * 3;
    if let Some(&[r, g, b]) = palette.and_then(|p| p.get(at..at + 3)) {
        return [r, g, b];
    }
    let bit = |k: u8| id >> k & 1;
    [0, 1, 2].map(|c| bit(c) << 7 | bit(c + 3) << 6 | if c < 2 { bit(c + 6) << 5 } else { 0 })
}

fn brightest(colour: [u8; 3]) -> [u8; 3] {
    let most = u32::from(colour.into_iter().max().unwrap_or(0).max(1));
    colour.map(|c| (u32::from(c) * 255 / most) as u8) // at most 255, since c is at most `most`
}

/// `frame` reduced to at most `width` columns.
pub fn fitted(frame: Rgb, width: u32) -> Rgb {
    let width = frame.width.min(width.max(1) as usize);
    let height = (frame.height * width / frame.width.max(1)).max(1);
    resized(frame, width, height)
}

fn resized(frame: Rgb, width: usize, height: usize) -> Rgb {
    if (frame.width, frame.height) == (width, height) {
        return frame;
    }
    let from = |x, y| image::Rgb([0, 1, 2].map(|c| frame.pixels[(y as usize * frame.width + x as usize) * 3 + c]));
    let whole = RgbImage::from_fn(frame.width as u32, frame.height as u32, from);
    Rgb { width, height, pixels: resize(&whole, width as u32, height as u32, FilterType::Triangle).into_raw() }
}

/// At most `count` indices below `total`, evenly spaced from the first to the last.
pub fn spread(total: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(total);
    (0..count).map(move |i| i * (total - 1) / (count - 1).max(1))
}

/// Writes the frames of `sequence` under the masks in `masks_folder` as an animated GIF that runs in a
/// loop, at most `width` pixels wide. It ends where the masks end. One frame is in memory at a time, and
/// `path` holds a whole animation or what it held before.
pub fn animation(
    path: &Path,
    videos: &dyn VideoSource,
    sequence: &str,
    masks_folder: &Path,
    width: u32,
) -> Result<(), Error> {
    let temporary = temporary(path);
    let outcome = write(&temporary, videos, sequence, masks_folder, width)
        .and_then(|()| fs::rename(&temporary, path).map_err(|e| e.to_string()))
        .map_err(|reason| Error::results(path, format!("cannot write the animation: {reason}")));
    if outcome.is_err() {
        // The first error is the one to tell; a leftover is harmless.
        let _ = fs::remove_file(&temporary);
    }
    outcome
}

/// Writes the animation; an error is the reason.
fn write(path: &Path, videos: &dyn VideoSource, sequence: &str, masks_folder: &Path, width: u32) -> Result<(), String> {
    let unread = |e: selfpatch_datasets::Error| e.to_string();
    let mut masks = Vec::new();
    for index in 0..videos.frames(sequence).map_err(unread)? {
        let mask = masks_folder.join(format!("{}.png", videos.frame_name(sequence, index).map_err(unread)?));
        if !mask.is_file() {
            break;
        }
        masks.push(mask);
    }
    if masks.is_empty() {
        return Err(format!("{}: holds no mask of the first frame", masks_folder.display()));
    }
    let palette = videos.palette(sequence).map_err(unread)?;
    let first = fitted(videos.frame(sequence, 0).map_err(unread)?, width);
    let (columns, rows) = (first.width, first.height);
    let side = |pixels: usize| u16::try_from(pixels).map_err(|e| e.to_string());
    let (w, h) = (side(columns)?, side(rows)?);
    let file = File::create(path).map_err(|e| e.to_string())?;
    let unwritten = |e: gif::EncodingError| e.to_string();
    let mut encoder = Encoder::new(BufWriter::new(file), w, h, &[]).map_err(unwritten)?;
    encoder.set_repeat(Repeat::Infinite).map_err(unwritten)?;
    for index in spread(masks.len(), MAX_FRAMES) {
        let frame = resized(videos.frame(sequence, index).map_err(unread)?, columns, rows);
        let picture = blend(&frame, &decode_mask(&masks[index]).map_err(unread)?, palette.as_deref());
        let mut shown = gif::Frame::from_rgb_speed(w, h, &picture, ROUGHNESS);
        shown.delay = DELAY;
        encoder.write_frame(&shown).map_err(unwritten)?;
    }
    let mut written = encoder.into_inner().map_err(|e| e.to_string())?;
    written.flush().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfpatch_datasets::{ProceduralVideos, write_mask};

    fn grey(width: usize, height: usize) -> Rgb {
        Rgb { width, height, pixels: vec![100; width * height * 3] }
    }

    #[test]
    fn objects_are_tinted_and_outlined() {
        let mut ids = vec![0; 49];
        (1..6).for_each(|y| ids[y * 7 + 1..y * 7 + 6].fill(1));
        ids[48] = VOID;
        let mask = Mask { width: 7, height: 7, ids };
        let palette = [0, 0, 0, 200, 0, 100];
        let picture = blend(&grey(7, 7), &mask, Some(&palette));
        assert_eq!(picture.get_pixel(3, 3).0, [145, 55, 100]);
        for (x, y) in [(1, 1), (5, 5), (1, 3), (3, 5)] {
            assert_eq!(picture.get_pixel(x, y).0, [255, 0, 127], "{x} {y}");
        }
        for (x, y) in [(0, 0), (6, 3), (6, 6)] {
            assert_eq!(picture.get_pixel(x, y).0, [100; 3], "{x} {y}");
        }
    }

    #[test]
    fn a_mask_of_another_size_is_stretched() {
        let mask = Mask { width: 2, height: 1, ids: vec![0, 2] };
        let picture = blend(&grey(400, 10), &mask, None);
        let green = [0, 255, 0];
        let row: Vec<[u8; 3]> = (198..204).map(|x| picture.get_pixel(x, 5).0).collect();
        assert_eq!(row, [[100; 3], [100; 3], green, green, [55, 113, 55], [55, 113, 55]]);
    }

    #[test]
    fn colours_come_from_the_palette_or_pascal_voc() {
        assert_eq!(colour(1, Some(&[0, 0, 0, 7, 8, 9])), [7, 8, 9]);
        assert_eq!(colour(2, Some(&[0, 0, 0, 7, 8, 9])), [0, 128, 0]);
        assert_eq!((colour(11, None), colour(254, None)), ([192, 128, 0], [96, 224, 192]));
    }

    #[test]
    fn spread_reaches_both_ends() {
        assert_eq!(spread(9, 5).collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
        assert_eq!(spread(3, 5).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((spread(0, 5).count(), spread(1, 5).count(), spread(400, 150).last()), (0, 1, Some(399)));
    }

    #[test]
    fn an_animation_ends_with_its_masks() {
        let folder = tempfile::tempdir().unwrap();
        let videos = ProceduralVideos::new(0, 1, 6, 96);
        for index in 0..4 {
            let mask = videos.mask("scene-00", index).unwrap().unwrap();
            write_mask(folder.path().join(format!("{index:05}.png")), &mask).unwrap();
        }
        let path = folder.path().join("a.gif");
        animation(&path, &videos, "scene-00", folder.path(), 60).unwrap();
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(File::open(&path).unwrap()).unwrap();
        assert_eq!((decoder.width(), decoder.height(), decoder.repeat()), (60, 60, Repeat::Infinite));
        let mut frames = 0;
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            assert_eq!((frame.delay, frame.width), (DELAY, 60));
            frames += 1;
        }
        assert_eq!(frames, 4);
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 5, "nothing temporary is left");

        let error = animation(&path, &videos, "scene-00", &folder.path().join("none"), 60).unwrap_err();
        assert!(format!("{error:#}").contains("no mask of the first frame"), "{error:#}");
    }
}
