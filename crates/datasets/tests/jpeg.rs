//! JPEG files written by Pillow, beside the pixels that Pillow makes of them (as PNG).

use selfpatch_datasets::{Decoding, Samples, decode};
use std::path::Path;

const FILES: [&str; 5] = ["420", "422", "444-progressive", "grey", "cmyk"];

fn path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jpeg").join(name)
}

#[test]
fn exact_decoding_gives_the_bytes_of_pillow() {
    for name in FILES {
        let (jpeg, png) = (decode(path(&format!("{name}.jpg"))), decode(path(&format!("{name}.png"))));
        assert_eq!(jpeg.unwrap(), png.unwrap(), "{name}");
    }
}

#[test]
fn the_usual_decoder_is_a_few_levels_off() {
    for name in FILES {
        let image = Decoding::default().image(&std::fs::read(path(&format!("{name}.jpg"))).unwrap()).unwrap();
        let Samples::Bytes(ours) = image.samples else { panic!("floats") };
        let want = decode(path(&format!("{name}.png"))).unwrap().pixels;
        assert_eq!(ours.len(), want.len(), "{name}");
        let most = ours.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(most <= Some(12), "{name}: {most:?}");
    }
}

#[test]
fn damage_is_an_error_or_an_image() {
    let want = Decoding { exact_jpeg: true, max_pixels: 1 << 20, ..Decoding::default() };
    for name in FILES {
        let whole = std::fs::read(path(&format!("{name}.jpg"))).unwrap();
        for place in 0..whole.len() {
            for value in [0, 0x55, 0xff] {
                let mut bytes = whole.clone();
                bytes[place] = value;
                if let Ok(image) = want.image(&bytes) {
                    let Samples::Bytes(pixels) = image.samples else { panic!("floats") };
                    assert_eq!(pixels.len(), image.width * image.height * image.channels, "{name} at {place}");
                }
            }
        }
    }
}
