//! Masks of objects: PNG files as DAVIS has them.

use crate::scratch;
use png::{BitDepth, ColorType, Encoder};
use selfpatch_datasets::{Mask, decode_mask, mask_palette, write_mask};
use std::fs;

/// Reads a mask and its palette.
pub fn read(bytes: &[u8]) -> bool {
    scratch::with_file("mask.png", bytes, |path| {
        let palette = mask_palette(path);
        let mask = decode_mask(path);
        palette.is_ok() && mask.is_ok_and(|mask| mask.ids.len() == mask.width * mask.height)
    })
}

/// A mask as it is written here, and those of other programs: few bits, grey, the palette's colours.
pub fn seeds() -> anyhow::Result<Vec<Vec<u8>>> {
    let folder = scratch::folder()?;
    let path = folder.path().join("seed.png");
    let ids = (0..40 * 30).map(|i| (i / 40 / 10) as u8).collect();
    write_mask(&path, &Mask { width: 40, height: 30, ids })?;
    let mut seeds = vec![fs::read(path)?];
    for (colour, depth, row) in [
        (ColorType::Indexed, BitDepth::Two, &[0b1101_1000, 0x40][..]),
        (ColorType::Grayscale, BitDepth::Sixteen, &[0, 1, 0, 2, 0, 3, 0, 0, 0, 255]),
        (ColorType::Rgb, BitDepth::Eight, &[0, 0, 0, 128, 0, 0, 0, 128, 0, 0, 0, 0, 128, 128, 0]),
    ] {
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, 5, 3);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == ColorType::Indexed {
            encoder.set_palette(vec![9; 12]);
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&row.repeat(3))?;
        writer.finish()?;
        seeds.push(file);
    }
    Ok(seeds)
}
