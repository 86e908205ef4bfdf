//! Small synthetic data under the names that the pages use.

use crate::tar::tar;
use image::{Rgb, RgbImage};
use selfpatch_datasets::{ProceduralVideos, VideoSource, write_mask};
use std::fs;
use std::path::Path;

/// Fills a folder with `photos`, `photos-by-class`, `frames`, `list.txt`, `list.csv`, `shards`, `bands`, `davis` and
/// fixtures of `parity`.
pub fn make(root: &Path) {
    for i in 0..24 {
        picture(i, 120, 90, &root.join(format!("photos/{}/{i:03}.jpg", ["cat", "dog"][i % 2])));
    }
    for i in 0..32 {
        let place = format!("photos-by-class/{}/{}/{i:03}.png", ["train", "train", "train", "val"][i / 2 % 4], i % 2);
        picture(i, 64, 64, &root.join(place));
    }
    for i in 0..8 {
        picture(i, 96, 64, &root.join(format!("frames/clip/{i:05}.png")));
    }
    lists(root);
    shards(root);
    fs::create_dir(root.join("bands")).expect("made");
    for i in 0..8 {
        fs::write(root.join(format!("bands/{i}.tif")), bands(i)).expect("written");
    }
    davis(&root.join("davis"));
    #[cfg(unix)]
    {
        fs::create_dir_all(root.join("crates/optim/tests")).expect("made");
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../optim/tests/fixtures");
        std::os::unix::fs::symlink(fixtures, root.join("crates/optim/tests/fixtures")).expect("a link");
    }
}

/// An image with a few edges and colours in it.
fn picture(seed: usize, width: u32, height: u32, path: &Path) {
    let of = |x: u32, y: u32, shift: u32| ((x * (seed as u32 % 7 + 3)) ^ (y * (seed as u32 % 5 + 2) + shift)) as u8;
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    let image = RgbImage::from_fn(width, height, |x, y| Rgb([of(x, y, 0), of(y, x, 40), of(x, y, 80)]));
    image.save(path).expect("written");
}

fn photo(i: usize) -> String {
    format!("photos/{}/{i:03}.jpg", ["cat", "dog"][i % 2])
}

fn lists(root: &Path) {
    let rows = |of: &dyn Fn(usize) -> String| (0..24).map(of).collect::<Vec<_>>().join("\n");
    fs::write(root.join("list.txt"), rows(&photo)).expect("written");
    let csv = format!("path,label\n{}\n", rows(&|i| format!("{},{}", photo(i), i % 2)));
    fs::write(root.join("list.csv"), csv).expect("written");
}

/// Tar files as WebDataset names what is in them.
fn shards(root: &Path) {
    fs::create_dir(root.join("shards")).expect("made");
    for shard in 0..2 {
        let images: Vec<Vec<u8>> =
            (0..8).map(|i| fs::read(root.join(photo(shard * 8 + i))).expect("a photo")).collect();
        let classes: Vec<String> = (0..8).map(|i| i.to_string()).collect();
        let entries = (0..8)
            .flat_map(|i| [(format!("{i:04}.jpg"), &images[i][..]), (format!("{i:04}.cls"), classes[i].as_bytes())]);
        fs::write(root.join(format!("shards/train-{shard:03}.tar")), tar(entries)).expect("written");
    }
}

/// A TIFF of five bands of 16 bits: 40 x 40 pixels in one strip.
fn bands(seed: u16) -> Vec<u8> {
    const SIDE: u16 = 40;
    const BANDS: u16 = 5;
    let value = |i: u32| ((i * (u32::from(seed) * 2 + 3)) % 10_000) as u16;
    let pixels: Vec<u8> =
        (0..u32::from(SIDE) * u32::from(SIDE) * u32::from(BANDS)).flat_map(|i| value(i).to_le_bytes()).collect();
    // Behind the header: the bits of each band, then the pixels.
    let (bits, data) = (8u32, 18u32);
    let directory = data + pixels.len() as u32;
    let mut file = b"II\x2a\0".to_vec();
    file.extend(directory.to_le_bytes());
    file.extend([16u16.to_le_bytes(); BANDS as usize].concat());
    file.extend(&pixels);
    let (short, long) = (3u16, 4u16);
    let entries: [(u16, u16, u32, u32); 10] = [
        (256, short, 1, SIDE.into()),
        (257, short, 1, SIDE.into()),
        (258, short, BANDS.into(), bits),
        (259, short, 1, 1), // not compressed
        (262, short, 1, 1), // grey, the first band
        (273, long, 1, data),
        (277, short, 1, BANDS.into()),
        (278, short, 1, SIDE.into()),
        (279, long, 1, pixels.len() as u32),
        (338, short, 2, 0), // what the others are is not said
    ];
    file.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        file.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        file.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.extend([0; 4]);
    file
}

/// Two synthetic videos of six frames in DAVIS's layout, called `dog` and `cat`.
fn davis(root: &Path) {
    let videos = ProceduralVideos::new(3, 2, 6, 64);
    for (name, own) in ["dog", "cat"].iter().zip(videos.sequences()) {
        let (frames, masks) = (root.join("JPEGImages/480p").join(name), root.join("Annotations/480p").join(name));
        fs::create_dir_all(&frames).expect("made");
        fs::create_dir_all(&masks).expect("made");
        for i in 0..6 {
            let frame = videos.frame(&own, i).expect("a frame");
            let picture = RgbImage::from_raw(64, 64, frame.pixels).expect("whole");
            picture.save(frames.join(format!("{i:05}.jpg"))).expect("written");
            let mask = videos.mask(&own, i).expect("read").expect("a mask");
            write_mask(masks.join(format!("{i:05}.png")), &mask).expect("written");
        }
    }
    fs::create_dir_all(root.join("ImageSets/2017")).expect("made");
    fs::write(root.join("ImageSets/2017/val.txt"), "dog\ncat\n").expect("written");
}
