//! Files of many kinds beside Pillow, which makes and reads them. Skipped without a Python that has Pillow up to
//! 12.3, numpy and tifffile (`SELFPATCH_PYTHON`).

use selfpatch_datasets::{Decoding, Drawn, Filter, Image, Picture, Pillow, Samples, Window};
use std::fs;
use std::process::Command;

/// What Pillow reads and this project refuses, by a part of the reason.
const REFUSED: [(&str, &str); 3] =
    [("zstd.tif", "Zstandard"), ("pil_g3.tif", "CCITT group 3"), ("pil_lab.tif", "Lab colours")];

#[test]
fn every_file_has_the_pixels_that_pillow_makes_of_it() {
    let Ok(python) = std::env::var("SELFPATCH_PYTHON") else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pillow/files.py");
    let output = Command::new(&python).args([script.as_ref(), folder.path().as_os_str()]).output().unwrap();
    if !output.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let text = fs::read_to_string(folder.path().join("expect.json")).unwrap();
    let expected: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    let as_stored = Decoding { exif: false, exact_jpeg: true, ..Decoding::default() };
    let mut wrong = Vec::new();
    for (name, pillow) in &expected {
        let image = as_stored.image(&fs::read(folder.path().join(name)).unwrap());
        let outcome = match (&image, pillow.as_array()) {
            (Ok(image), Some(_)) => {
                let want = fs::read(folder.path().join(format!("{name}.rgb"))).unwrap();
                let Samples::Bytes(got) = &image.samples else { panic!("floats") };
                let differ = got.iter().zip(&want).filter(|(a, b)| a != b).count();
                let most = got.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
                let equal = differ == 0 && got.len() == want.len();
                if equal { "equal".to_string() } else { format!("WRONG: {differ} of {} bytes, by {most}", want.len()) }
            }
            (Ok(_), None) => format!("read; Pillow: {pillow}"),
            (Err(e), None) => format!("refused by both: {e}"),
            (Err(e), Some(_)) if REFUSED.iter().any(|(of, why)| of == name && e.contains(why)) => {
                format!("refused: {e}")
            }
            (Err(e), Some(_)) => format!("WRONG: refused: {e}"),
        };
        println!("{name:24} {outcome}");
        wrong.extend(outcome.starts_with("WRONG").then(|| format!("{name}: {outcome}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn crops_are_resized_as_by_the_installed_pillow() {
    let Ok(python) = std::env::var("SELFPATCH_PYTHON") else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pillow/resize.py");
    let output = Command::new(&python).args([script.as_ref(), folder.path().as_os_str()]).output().unwrap();
    if !output.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let text = fs::read_to_string(folder.path().join("cases.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let version = value["version"].as_str().unwrap();
    let major: u32 = version.split('.').next().unwrap().parse().unwrap();
    let (pillow, other) = match major {
        13.. => (Pillow::V13, Pillow::V12),
        _ => (Pillow::V12, Pillow::V13),
    };
    let pixels = fs::read(folder.path().join("pixels")).unwrap();
    let (mut rest, mut differ) = (&pixels[..], 0);
    for case in value["cases"].as_array().unwrap() {
        let numbers: Vec<usize> = case.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        let [width, height, left, top, w, h, size] = numbers[..] else { panic!("{case}") };
        let (image, after) = rest.split_at(width * height * 3);
        let (want, after) = after.split_at(size * size * 3);
        rest = after;
        let image = Image { width, height, channels: 3, samples: Samples::Bytes(image.to_vec()) };
        let window = Window { left, top, width: w, height: h };
        let drawn = Drawn { window, size, filter: Filter::Bicubic, flip: false, ops: Vec::new() };
        let view = |pillow| match Picture::of(&image).unwrap().resized_as(pillow).view(&drawn) {
            // Planes to pixels.
            Samples::Bytes(v) => (0..v.len()).map(|i| v[i % 3 * size * size + i / 3]).collect::<Vec<u8>>(),
            Samples::Floats(_) => panic!("floats"),
        };
        assert!(view(pillow) == want, "Pillow {version}: {case}");
        differ += usize::from(view(other) != want);
    }
    println!(
        "Pillow {version}: equal in {} crops; {differ} differ in the other order",
        value["cases"].as_array().unwrap().len()
    );
    assert!(differ > 0);
}
