//! Real folders through the program: broken files, other channels than RGB, `inspect-data`.

mod common;

use common::{err, out, selfpatch};
use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb};
use serde_json::Value;
use std::fs;
use std::io::Cursor;
use std::path::Path;

/// A small network on data of one's own.
const SMALL: [&str; 15] = [
    "train",
    "--preset",
    "default",
    "--epochs",
    "2",
    "--set",
    "model.embed_dim=24",
    "--set",
    "model.depth=1",
    "--set",
    "head.hidden_dim=16",
    "--out_dim=32",
    "--out_dim_selfpatch=16",
    "--batch_size_per_gpu",
    "10",
];

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).expect("encoded");
    file.into_inner()
}

/// A picture with enough in it for its file to have a middle.
fn picture(seed: u32) -> DynamicImage {
    let of = |x: u32, y: u32| ((x * (seed % 7 + 3)) ^ (y * (seed % 5 + 2))) as u8;
    DynamicImage::from(ImageBuffer::from_fn(80, 60, |x, y| Rgb([of(x, y), of(y, x), of(x + y, seed)])))
}

/// A PNG that says it has this many pixels and holds none.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut png = encoded(&picture(0), ImageFormat::Png);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = png[12..29].iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    png[29..33].copy_from_slice(&(!crc).to_be_bytes());
    png
}

/// 100 good images, and what real folders have besides.
fn folder_with_broken_files(root: &Path) {
    fs::create_dir(root.join("photos")).expect("made");
    let write = |name: &str, bytes: &[u8]| fs::write(root.join("photos").join(name), bytes).expect("written");
    for i in 0..100 {
        write(&format!("{i:03}.jpg"), &encoded(&picture(i), ImageFormat::Jpeg));
    }
    let jpeg = encoded(&picture(7), ImageFormat::Jpeg);
    let mut damaged = jpeg.clone();
    let middle = jpeg.len() / 2;
    damaged[middle..middle + 400].iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * i + 13 * i) as u8);
    let mut bomb = jpeg.clone();
    let sizes = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).expect("a frame") + 5;
    bomb[sizes..sizes + 4].copy_from_slice(&[60_000u16.to_be_bytes(), 60_000u16.to_be_bytes()].concat());
    write("corrupt.jpg", &damaged);
    write("cut.jpg", &jpeg[..middle]);
    write("wrong.png", &jpeg);
    write("bomb.png", &png_header(60_000, 60_000));
    write("bomb.jpg", &bomb);
    write("empty.jpg", b"");
}

#[test]
fn a_run_passes_over_broken_files_and_repeats_itself() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    folder_with_broken_files(root);
    let mut runs = Vec::new();
    for workers in ["1", "3"] {
        let name = format!("with-{workers}");
        let more = ["--data", "photos", "--max-bad", "0.06", "--num_workers", workers, "--name", &name];
        let output = selfpatch(root, &[&SMALL[..], &more].concat());
        assert!(output.status.success(), "{}", err(&output));
        let said = out(&output);
        for (name, what) in [
            ("skipped corrupt.jpg", "damaged"),
            ("skipped cut.jpg", "truncated"),
            ("skipped bomb.png", "60000 x 60000 pixels are more than"),
            ("skipped bomb.jpg", "60000 x 60000 pixels are more than"),
            ("skipped empty.jpg", "the file is empty"),
            ("note: wrong.png", "is named as a PNG but is a JPEG"),
        ] {
            let line = said.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}: {said}"));
            assert!(line.contains(what), "{line}");
        }
        assert!(said.contains("5 bad images"), "{said}");
        let read =
            |file: &str| fs::read_to_string(root.join("runs").join(&name).join(file)).expect("a file of the run");
        let losses: Vec<Value> = read("log.jsonl")
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).expect("JSON"))
            .map(|r| serde_json::json!([r["train_loss"], r["skipped"]]))
            .collect();
        assert_eq!(losses.len(), 20);
        runs.push((losses, read("faults.jsonl")));
    }
    assert_eq!(runs[0], runs[1]);
    assert_eq!(runs[0].1.lines().count(), 6);
}

#[test]
fn too_many_broken_files_stop_the_run_with_their_list() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    folder_with_broken_files(folder.path());
    let output = selfpatch(folder.path(), &[&SMALL[..], &["--data", "photos"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let error = err(&output);
    assert!(error.contains("images cannot be used, more than 1.000 % of them (--max-bad)"), "{error}");
    assert!(error.contains(".jpg: ") && !error.contains("panicked"), "{error}");
}

#[test]
fn inspect_data_finds_what_training_would() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    folder_with_broken_files(root);
    let base = ["inspect-data", "--data", "photos", "--preset", "default"];
    let output = selfpatch(root, &[&base[..], &["--json", "--max-bad", "0.06", "--show", "3"]].concat());
    assert!(output.status.success(), "{}", err(&output));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let survey = &json["survey"];
    assert_eq!((&survey["images"], &survey["read"]), (&106.into(), &106.into()));
    assert_eq!(survey["formats"], serde_json::json!({ "JPEG, 3 channels, 8 bits": 101 }));
    assert_eq!((&survey["width"]["median"], &survey["height"]["most"]), (&80.into(), &60.into()));
    let bad: Vec<&str> = survey["bad"].as_array().expect("a list").iter().filter_map(|b| b["name"].as_str()).collect();
    assert_eq!(bad, ["bomb.jpg", "bomb.png", "corrupt.jpg", "cut.jpg", "empty.jpg"]);
    assert_eq!(survey["mislabelled"][0]["name"], "wrong.png");
    assert!(survey["mean"][0].as_f64().is_some_and(|m| (0.2..0.8).contains(&m)), "{survey}");
    assert!(json["stages_ms"]["views"].as_f64().is_some_and(|t| t > 0.));

    let at = |name: &str| root.join("runs/inspect-data").join(name);
    let sheet = image::open(at("contact-sheet.png")).expect("a picture");
    // 80 for the original, two views of 48, two columns of 24, a gap of 6 behind each; three rows.
    assert_eq!((sheet.width(), sheet.height()), (80 + 96 + 48 + 5 * 6, 3 * (60 + 2 * 6)));
    let page = fs::read_to_string(at("index.html")).expect("a page");
    assert!(page.contains("cut.jpg") && page.contains("data:image/png;base64,"));
    assert!(!page.contains("http:") && !page.contains("https:"), "the page needs nothing else");

    // By default so many broken files are too many, as they are for `train`.
    let output = selfpatch(root, &base);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        out(&output).contains("5 cannot be used\n") && out(&output).contains("            cut.jpg: "),
        "{}",
        out(&output)
    );
    assert!(err(&output).contains("`train` would stop"));
}

#[test]
fn other_channels_and_depths_are_trained_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    fs::create_dir(root.join("microscope")).expect("made");
    for i in 0..12u32 {
        let deep = ImageBuffer::from_fn(64, 64, |x, y| Luma([((x * y * 3 + i * 100) % 4096) as u16]));
        let file = encoded(&DynamicImage::ImageLuma16(deep), ImageFormat::Tiff);
        fs::write(root.join(format!("microscope/{i:02}.tif")), file).expect("written");
    }
    let data = ["--data", "microscope", "--set", "data.channels=1", "--set", "data.range=[0,4095]"];

    // As RGB the images are white: the survey says so, and how to read them.
    let output = selfpatch(root, &["inspect-data", "--data", "microscope"]);
    assert!(out(&output).contains("12 images have more than 8 bits"), "{}", out(&output));
    // What needs colours is refused by name.
    let refused = selfpatch(root, &[&SMALL[..], &data].concat());
    assert!(err(&refused).contains("saturation: of global view 1: needs images of 8-bit RGB"), "{}", err(&refused));
    // A preset leaves it out; mean and deviation are measured.
    let output = selfpatch(root, &[&["inspect-data", "--json"][..], &data].concat());
    assert!(output.status.success(), "{}", err(&output));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let most = json["survey"]["values"][1].as_f64().expect("a number");
    assert!((3500. ..=4095.).contains(&most), "{json}");
    let of = |name: &str| format!("data.{name}=[{}]", json["survey"][name][0]);
    let (mean, std) = (of("mean"), of("std"));
    let norm = ["--set", &mean, "--set", &std];
    let small = ["--arch=custom", "--local-crops-number=2", "--local-crops-size=48", "--global-crops-size=96"];
    let small = [&small[..], &["--set", "model.num_heads=2", "--max-steps=2"]].concat();
    let rest: Vec<&str> = SMALL[3..].iter().copied().filter(|a| *a != "--epochs" && *a != "2").collect();
    let train = [&["train"][..], &rest, &data, &norm, &small].concat();
    let output = selfpatch(root, &train);
    assert!(output.status.success(), "{}", err(&output));
    assert!(out(&output).contains("2 steps\n") && out(&output).contains("100 %"), "{}", out(&output));
    // Without them the error says what to do.
    let refused = selfpatch(root, &[&["train", "--name", "other"][..], &data].concat());
    assert!(err(&refused).contains("data.mean: has 3 numbers, but data.channels is 1; `inspect-data`"));
}

/// 12 images of two 16-bit channels on pages of their own; in every third one value lies far above the others.
fn microscopy(folder: &Path) {
    use tiff::encoder::{TiffEncoder, colortype::Gray16};
    fs::create_dir(folder).expect("made");
    for i in 0..12u32 {
        let mut file = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file).expect("an encoder");
        for channel in 0..2u32 {
            let of = |p: u32| 100 + 1000 * channel + (p * 7 + i * 13) % 900;
            let mut values: Vec<u16> = (0..64 * 64).map(|p| of(p) as u16).collect();
            if i % 3 == 0 {
                values[5] = 60_000;
            }
            encoder.write_image::<Gray16>(64, 64, &values).expect("a page");
        }
        fs::write(folder.join(format!("{i:02}.tif")), file.into_inner()).expect("written");
    }
}

#[test]
fn written_settings_train_and_clipped_values_are_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    microscopy(&root.join("cells"));
    // As RGB the pages would be cut off: refused, with the way out.
    let refused = selfpatch(root, &["inspect-data", "--data", "cells", "--show", "1"]);
    assert!(!refused.status.success());
    assert!(out(&refused).contains("has 2 pages") && out(&refused).contains("data.channels=2"), "{}", out(&refused));

    let inspect = ["inspect-data", "--data", "cells", "--show", "2", "--write-config", "cells.toml"];
    for _ in 0..2 {
        // The second time over the first.
        let output = selfpatch(root, &inspect);
        assert!(output.status.success(), "{}{}", out(&output), err(&output));
    }
    let text = fs::read_to_string(root.join("cells.toml")).expect("the settings");
    let table: toml::Table = text.parse().expect("TOML");
    let data = &table["data"];
    assert_eq!((data["path"].as_str(), data["channels"].as_integer()), (Some("cells"), Some(2)));
    let range = |c: usize, end: usize| data["range"][c][end].as_float().expect("a number");
    assert!(range(0, 0) < 110. && (980. ..1010.).contains(&range(0, 1)), "{text}");
    assert!(range(1, 0) < 1110. && (1980. ..2010.).contains(&range(1, 1)), "{text}");
    assert_eq!(data["mean"].as_array().map(Vec::len), Some(2));
    assert!(text.contains("Met were 100 to 60000, 1100 to 60000."), "{text}");
    // A file of somebody else stays.
    fs::write(root.join("own.toml"), "seed = 3").expect("written");
    let output = selfpatch(root, &["inspect-data", "--data", "cells", "--write-config", "own.toml"]);
    assert!(!output.status.success() && err(&output).contains("own.toml exists"), "{}", err(&output));

    let small = ["--arch=custom", "--local-crops-number=2", "--local-crops-size=48", "--global-crops-size=96"];
    let small = [&small[..], &["--set", "model.num_heads=2", "--max-steps=2"]].concat();
    let rest: Vec<&str> = SMALL[3..].iter().copied().filter(|a| *a != "--epochs" && *a != "2").collect();
    let output =
        selfpatch(root, &[&["train", "--config", "cells.toml", "--name", "cells"], &rest[..], &small].concat());
    assert!(output.status.success(), "{}", err(&output));
    let said = out(&output);
    assert!(said.contains("holds values outside of data.range, which are cut off; others like it"), "{said}");
    assert!(said.contains("images hold values outside of data.range") && said.contains("of all values lie"), "{said}");
    let faults = fs::read_to_string(root.join("runs/cells/faults.jsonl")).expect("faults");
    assert!(faults.contains("all images until step 2, Values"), "{faults}");
}

#[test]
fn settings_that_are_advised_work_when_they_are_followed() {
    use tiff::encoder::{TiffEncoder, colortype};
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    let write = |name: &str, bytes: &[u8]| {
        fs::create_dir_all(root.join(name)).expect("made");
        fs::write(root.join(name).join("a.image.tif"), bytes).expect("written");
    };
    write("colours", &encoded(&picture(3).into_rgb16().into(), ImageFormat::Png));
    let mut floats = Cursor::new(Vec::new());
    let values: Vec<f32> = (0..64 * 64).map(|i| (i % 100) as f32 / 99.).collect();
    let mut encoder = TiffEncoder::new(&mut floats).expect("an encoder");
    encoder.write_image::<colortype::Gray32Float>(64, 64, &values).expect("a page");
    write("floats", floats.get_ref());
    let mut bands = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut bands).expect("an encoder");
    (0..5).for_each(|i| encoder.write_image::<colortype::Gray8>(64, 64, &[i; 64 * 64]).expect("a page"));
    write("bands", bands.get_ref());
    for (name, expected) in [
        ("colours", "data.channels=3 --set data.range=[0,65535]"),
        ("floats", "data.channels=1 --set data.range=[0,1]"),
        ("bands", "data.channels=5"),
    ] {
        let inspect = ["inspect-data", "--data", name, "--show", "1"];
        let said = out(&selfpatch(root, &inspect));
        let line = said.lines().find(|line| line.contains("takes images like a.image.tif as they are"));
        let line = line.unwrap_or_else(|| panic!("{said}"));
        let (_, settings) = line.split_once("; ").expect("settings");
        let (settings, _) = settings.split_once(" takes images").expect("settings");
        assert_eq!(settings, format!("--set {expected}"));
        let flags: Vec<&str> = settings.split(' ').collect();
        let output = selfpatch(root, &[&inspect[..], &flags].concat());
        assert!(output.status.success() && out(&output).contains("0 cannot be used"), "{}", out(&output));
        assert!(!out(&output).contains("outside of data.range"), "{}", out(&output));
        // What is lost without them is told as `train` tells it.
        assert_eq!(said.contains("1 of 1 images hold values of more than 8 bits"), name != "bands", "{said}");
        assert_eq!(said.contains("1 of them have none above 1 and are black"), name == "floats", "{said}");
    }
    // Pages of colours are refused, and there are no settings that would change it.
    let mut pages = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut pages).expect("an encoder");
    (0..2).for_each(|i| encoder.write_image::<colortype::RGB8>(64, 64, &[i; 3 * 64 * 64]).expect("a page"));
    write("pages", pages.get_ref());
    let said = out(&selfpatch(root, &["inspect-data", "--data", "pages", "--show", "1"]));
    assert!(said.contains("has 2 pages") && !said.contains("--set data."), "{said}");
}

#[test]
fn what_bytes_and_rgb_leave_out_is_told_by_train() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    fs::create_dir(root.join("mixed")).expect("made");
    for i in 0..12u32 {
        let write = |kind: &str, image: DynamicImage, format| {
            fs::write(root.join(format!("mixed/{i:02}.{kind}")), encoded(&image, format)).expect("written");
        };
        match i % 3 {
            0 => write("png", ImageBuffer::from_fn(80, 60, |x, y| Luma([(x * y * 9) as u16])).into(), ImageFormat::Png),
            1 => write("png", picture(i).into_rgba8().into(), ImageFormat::Png),
            _ => {
                // A photo that a camera held on its side took.
                let jpeg = encoded(&picture(i), ImageFormat::Jpeg);
                let mut exif =
                    b"\xff\xe1\0\x22Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
                        .to_vec();
                exif.splice(0..0, jpeg[..2].to_vec());
                exif.extend(&jpeg[2..]);
                fs::write(root.join(format!("mixed/{i:02}.jpg")), exif).expect("written");
            }
        }
    }
    let output = selfpatch(root, &[&SMALL[..], &["--data", "mixed", "--name", "mixed"]].concat());
    let output = if output.status.success() { output } else { panic!("{}", err(&output)) };
    let said = out(&output);
    for line in [
        "images hold values of more than 8 bits (up to 16), read as bytes",
        "images have samples that RGB leaves out",
        "images carry an orientation (EXIF) that is not applied; --set data.exif=true turns them",
        "others like it are counted",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let turned = ["--data", "mixed", "--name", "turned", "--set", "data.exif=true"];
    let output = selfpatch(root, &[&SMALL[..], &turned].concat());
    assert!(output.status.success() && !out(&output).contains("orientation"), "{}{}", out(&output), err(&output));
}
