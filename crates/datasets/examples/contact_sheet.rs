//! Draws what the procedural world looks like, and times it:
//! `cargo run --release -p selfpatch-datasets --example contact_sheet -- sheet.png`
//!
//! Eight training images, every fifth frame of two videos, their masks, and the views of one image.

use std::time::Instant;

use selfpatch_datasets::{Error, ImageSource, MultiCrop, ProceduralImages, ProceduralVideos, Purpose, Rgb};
use selfpatch_datasets::{VideoSource, stream};

const CELL: usize = 128;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "sheet.png".into());
    let images = ProceduralImages::new(1, 512, 96);
    let videos = ProceduralVideos::new(1, 2, 16, CELL);
    let mut rows = vec![(0..8).map(|i| images.load(i)).collect::<Result<Vec<_>, _>>()?];
    for name in videos.sequences() {
        rows.push((0..16).step_by(5).map(|t| videos.frame(&name, t)).collect::<Result<_, _>>()?);
        rows.push((0..16).step_by(5).map(|t| labels(&videos, &name, t)).collect::<Result<_, _>>()?);
    }
    let crops = MultiCrop::procedural();
    let views = |crops: &MultiCrop, image: &Rgb, id: u64| {
        let mut rng = stream(0, Purpose::Crop, 0, id);
        (0..crops.views()).map(|v| interleaved(&crops.crop(image, v, &mut rng))).collect::<Vec<_>>()
    };
    rows.push(views(&crops, &images.load(0)?, 0));
    rows.push(views(&crops, &images.load(0)?, 1));

    let mut sheet = image::RgbImage::new(8 * CELL as u32, (rows.len() * CELL) as u32);
    for (y, row) in rows.iter().enumerate() {
        for (x, cell) in row.iter().enumerate() {
            let cell = image::RgbImage::from_raw(cell.width as u32, cell.height as u32, cell.pixels.clone());
            let cell = cell.ok_or("an image with too few pixels")?;
            image::imageops::replace(&mut sheet, &cell, (x * CELL) as i64, (y * CELL) as i64);
        }
    }
    sheet.save(&path)?;
    println!("wrote {path}");

    let start = Instant::now();
    let all = (0..512).map(|i| images.load(i)).collect::<Result<Vec<_>, _>>()?;
    report("procedural image of 96 pixels", start, 512);
    let start = Instant::now();
    let bytes: usize = all.iter().map(|image| (0..6).map(|v| once(&crops, image, v)).sum::<usize>()).sum();
    report("procedural sample (2 x 48, 4 x 24)", start, 512);
    let dino = MultiCrop::dino(224, 96, 8, [0.25, 1.0], [0.05, 0.25]);
    let photo = ProceduralImages::new(1, 1, 450).load(0)?;
    let start = Instant::now();
    let more: usize = (0..32).map(|_| (0..10).map(|v| once(&dino, &photo, v)).sum::<usize>()).sum();
    report("published sample (2 x 224, 8 x 96)", start, 32);
    println!("{} bytes of views", bytes + more);
    Ok(())
}

fn once(crops: &MultiCrop, image: &Rgb, view: usize) -> usize {
    crops.crop(image, view, &mut stream(0, Purpose::Crop, 0, view as u64)).len()
}

fn report(what: &str, start: Instant, count: u32) {
    println!("{what}: {:.2} ms", 1e3 * (start.elapsed() / count).as_secs_f64());
}

/// A mask in loud colours.
fn labels(videos: &ProceduralVideos, name: &str, t: usize) -> Result<Rgb, Error> {
    let colours = [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]];
    let ids = videos.mask(name, t)?.map_or(Vec::new(), |mask| mask.ids);
    let pixels = ids.iter().flat_map(|&id| colours[usize::from(id) % 5]).collect();
    Ok(Rgb { width: CELL, height: CELL, pixels })
}

/// A planar view as an image.
fn interleaved(view: &[u8]) -> Rgb {
    let area = view.len() / 3;
    let size = area.isqrt();
    let pixels = (0..area).flat_map(|i| [view[i], view[area + i], view[2 * area + i]]).collect();
    Rgb { width: size, height: size, pixels }
}
