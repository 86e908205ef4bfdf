//! Videos: procedural ones, and the layouts of folders.

use std::fs;
use std::path::Path;

use selfpatch_datasets::{Content, DavisFolder, Error, Mask, ProceduralImages, ProceduralVideos, Samples, VideoSource};
use selfpatch_datasets::{ImageSource, decode_mask, mask_palette, write_mask, write_mask_with};

#[test]
fn procedural_objects_are_well_visible_in_the_first_frame() {
    let videos = ProceduralVideos::new(0, 12, 16, 128);
    let names = videos.sequences();
    assert_eq!((names.len(), names[0].as_str(), names[11].as_str()), (12, "scene-00", "scene-11"));
    for name in &names {
        assert_eq!(videos.frames(name).unwrap(), 16);
        let mask = videos.mask(name, 0).unwrap().unwrap();
        assert_eq!((mask.width, mask.height), (128, 128));
        assert!(mask.ids.iter().all(|&id| id <= 4));
        for id in 1..=4 {
            assert!(mask.ids.iter().filter(|&&i| i == id).count() >= 200, "object {id} of {name}");
        }
    }
}

#[test]
fn procedural_frames_repeat_in_any_order_and_move() {
    let (a, b) = (ProceduralVideos::new(5, 2, 4, 128), ProceduralVideos::new(5, 2, 4, 128));
    let forward: Vec<_> = (0..4).map(|i| a.frame("scene-01", i).unwrap()).collect();
    for i in (0..4).rev() {
        assert_eq!(b.frame("scene-01", i).unwrap(), forward[i]);
        assert_eq!(b.mask("scene-01", i).unwrap(), a.mask("scene-01", i).unwrap());
    }
    assert_ne!(forward[0], forward[1]);
    assert_ne!(a.mask("scene-01", 0).unwrap(), a.mask("scene-01", 3).unwrap());
    assert_ne!(a.frame("scene-00", 0).unwrap(), forward[0]);
}

#[test]
fn training_images_are_no_frames_of_the_videos() {
    let images = ProceduralImages::new(0, 8, 128);
    let videos = ProceduralVideos::new(0, 4, 2, 128);
    for i in 0..8 {
        let Content::Image(image) = images.read(i).unwrap() else { panic!("a file") };
        let Samples::Bytes(pixels) = image.samples else { panic!("floats") };
        for name in videos.sequences() {
            let frame = videos.frame(&name, 0).unwrap();
            let same = pixels.iter().zip(&frame.pixels).filter(|(a, b)| a == b).count();
            // Unrelated pictures share a few per cent of their bytes by chance.
            assert!(same < pixels.len() / 5);
        }
    }
}

#[test]
fn procedural_videos_refuse_what_they_do_not_have() {
    let videos = ProceduralVideos::new(0, 2, 3, 128);
    for name in ["scene-02", "scene-1", "scene-+1", "scene-001", "dog", ""] {
        assert!(matches!(videos.frame(name, 0), Err(Error::Missing { .. })), "{name}");
    }
    assert!(videos.frame("scene-00", 3).is_err());
    let tiny = ProceduralVideos::new(0, 1, 1, 16).frame("scene-00", 0).unwrap_err();
    assert!(matches!(tiny, Error::Config { field: "size", .. }), "{tiny}");
}

/// Makes the files `names` below `root`, with their folders: 8 x 6 frames in the grey of their index, masks
/// full of their index + 1 (`.png` where `masks`), and texts.
fn make(root: &Path, folder: &str, names: &[&str], masks: bool) {
    let folder = root.join(folder);
    fs::create_dir_all(&folder).unwrap();
    for (i, name) in names.iter().enumerate() {
        let path = folder.join(name);
        if masks {
            write_mask(path, &Mask { width: 8, height: 6, ids: vec![i as u8 + 1; 48] }).unwrap();
        } else {
            image::RgbImage::from_pixel(8, 6, image::Rgb([40u8.wrapping_mul(i as u8); 3])).save(path).unwrap();
        }
    }
}

const JPG: [&str; 3] = ["00000.jpg", "00001.jpg", "00002.jpg"];
const PNG: [&str; 3] = ["00000.png", "00001.png", "00002.png"];

/// A DAVIS folder with the sequences cat (3 frames, 3 masks) and ant (2 frames, 1 mask).
fn davis(root: &Path) {
    make(root, "JPEGImages/480p/cat", &JPG, false);
    make(root, "Annotations/480p/cat", &PNG, true);
    make(root, "JPEGImages/480p/ant", &JPG[..2], false);
    make(root, "Annotations/480p/ant", &PNG[..1], true);
    fs::create_dir_all(root.join("ImageSets/2017")).unwrap();
    fs::write(root.join("ImageSets/2017/val.txt"), "cat\nant\n\n").unwrap();
    fs::write(root.join("ImageSets/2017/train.txt"), "ant\r\n").unwrap();
}

fn open(root: &Path) -> Result<DavisFolder, Error> {
    DavisFolder::open(root, "2017", "val", "480p")
}

/// Which frames of a sequence have masks, and how the frames are called.
fn outline(set: &DavisFolder, name: &str) -> Vec<(String, bool)> {
    let frame = |i| (set.frame_name(name, i).unwrap(), set.mask(name, i).unwrap().is_some());
    (0..set.frames(name).unwrap()).map(frame).collect()
}

/// What the methods say of a sequence that cannot be used.
fn refused(set: &DavisFolder, name: &str) -> String {
    let text = set.frames(name).unwrap_err().to_string();
    assert_eq!(set.frame(name, 0).unwrap_err().to_string(), text);
    assert_eq!(set.frame_name(name, 0).unwrap_err().to_string(), text);
    assert_eq!(set.palette(name).unwrap_err().to_string(), text);
    assert_eq!(set.mask(name, 0).unwrap_err().to_string(), text);
    text
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn davis_frames_and_masks_are_matched_by_name() {
    let root = tempfile::tempdir().unwrap();
    davis(root.path());
    let set = open(root.path()).unwrap();
    assert_eq!(set.sequences(), ["cat", "ant"]);
    assert_eq!((set.frames("cat").unwrap(), set.frames("ant").unwrap()), (3, 2));
    assert_eq!(set.frame("cat", 2).unwrap().pixels[0], 80);
    assert_eq!(set.frame_name("cat", 2).unwrap(), "00002");
    assert_eq!(set.mask("cat", 2).unwrap().unwrap().ids, [3; 48]);
    assert_eq!(set.mask("ant", 1).unwrap(), None);
    has(&set.frame("cat", 3).unwrap_err().to_string(), &["frame 3 in cat", "it has 3"]);
    has(&set.frame("dog", 0).unwrap_err().to_string(), &["dog", "val.txt", "cat, ant"]);
    assert_eq!(DavisFolder::open(root.path(), "2017", "train", "480p").unwrap().sequences(), ["ant"]);

    let names = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    assert_eq!(set.clone().with_sequences(&names(&["ant"])).unwrap().sequences(), ["ant"]);
    has(&set.with_sequences(&names(&["dog"])).unwrap_err().to_string(), &["dog", "cat, ant"]);
}

#[test]
fn davis_names_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let open = |year: &str, split: &str, resolution: &str| {
        DavisFolder::open(root.path(), year, split, resolution).unwrap_err().to_string()
    };
    davis(root.path());
    has(&open("2017", "test", "480p"), &["test.txt", "no such split", "train, val"]);
    has(&open("2016", "val", "480p"), &["2016", "val.txt", "2017"]);
    has(&open("2017", "val", "1080p"), &["JPEGImages", "1080p", "480p"]);
    let list = root.path().join("ImageSets/2017/bad.txt");
    for name in ["../../secret", "/etc", "..", "a/b", "/JPEGImages/480p", "/JPEGImages/480p/../a.jpg b"] {
        fs::write(&list, name).unwrap();
        has(&open("2017", "bad", "480p"), &["bad.txt", name, "not the name of a sequence"]);
    }
    fs::write(&list, "\n").unwrap();
    has(&open("2017", "bad", "480p"), &["bad.txt", "no sequences"]);
    fs::rename(root.path().join("Annotations"), root.path().join("Masks")).unwrap();
    has(&open("2017", "val", "480p"), &["Annotations"]);
    fs::remove_dir_all(root.path().join("ImageSets")).unwrap();
    fs::create_dir(root.path().join("ImageSets")).unwrap();
    fs::rename(root.path().join("Masks"), root.path().join("Annotations")).unwrap();
    has(&open("2017", "val", "480p"), &["val.txt", "ImageSets/<year>/<split>.txt"]);
}

#[test]
fn a_broken_sequence_does_not_harm_the_others() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    davis(root);
    make(root, "JPEGImages/480p/empty", &[], false);
    make(root, "JPEGImages/480p/bare", &JPG, false);
    make(root, "JPEGImages/480p/late", &JPG, false);
    make(root, "Annotations/480p/late", &PNG[1..], true);
    make(root, "JPEGImages/480p/twice", &["0.jpg", "0.JPEG", "1.jpg"], false);
    fs::write(root.join("ImageSets/2017/val.txt"), "absent\nempty\nbare\nlate\ntwice\ncat").unwrap();
    let set = open(root).unwrap();
    has(&refused(&set, "absent"), &["JPEGImages/480p/absent"]);
    has(&refused(&set, "empty"), &["JPEGImages/480p/empty", "no frames"]);
    has(&refused(&set, "bare"), &["bare/00000.jpg", "no mask", "Annotations/480p/bare"]);
    has(&refused(&set, "late"), &["Annotations/480p/late", "no mask 00000.png", "late/00000.jpg"]);
    has(&refused(&set, "twice"), &["0.jpg", "0.JPEG", "same frame"]);
    assert_eq!(set.mask("cat", 0).unwrap().unwrap().ids, [1; 48]);
    // What was refused is looked at again.
    make(root, "Annotations/480p/late", &PNG[..1], true);
    assert_eq!(set.frames("late").unwrap(), 3);
}

#[test]
fn frames_of_several_formats_are_one_sequence() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let names = ["0.jpg", "1.png", "2.JPG", "3.webp", "4.bmp", "5.tif", "6.PNG", "7.jpeg", "8.TIFF"];
    make(root, "JPEGImages/480p/cat", &names, false);
    make(root, "Annotations/480p/cat", &["0.png", "1.png", "6.png", "9.png"], true);
    for extra in ["JPEGImages/480p/cat/9.gif", "JPEGImages/480p/cat/10.heic", "Annotations/480p/cat/2.bmp"] {
        fs::write(root.join(extra), "no frame").unwrap();
    }
    let set = set_of(root);
    let frames = outline(&set, "cat");
    assert_eq!(
        frames.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["0", "1", "2", "3", "4", "5", "6", "7", "8"]
    );
    assert_eq!(frames.iter().filter(|(_, mask)| *mask).count(), 3);
    for (i, grey) in (0..9).map(|i| (i, 40u8.wrapping_mul(i as u8))) {
        assert_eq!(set.frame("cat", i).unwrap().pixels[0], grey, "{i}");
    }
    let notes = set.notes("cat").unwrap();
    let expected = [
        ("1 of the masks in", "have no frame and are not used: 9.png"),
        ("2 of the files in", "are no frames: 10.heic, 9.gif"),
        ("1 of the files in", "are no masks: 2.bmp"),
    ];
    assert_eq!(notes.len(), 3, "{notes:?}");
    notes
        .iter()
        .zip(expected)
        .for_each(|(note, (start, end))| assert!(note.starts_with(start) && note.ends_with(end), "{note}"));

    // One frame in two formats is refused, and so is one mask in two files.
    make(root, "JPEGImages/480p/ant", &["0.jpg", "0.png", "1.jpg"], false);
    make(root, "Annotations/480p/ant", &["0.png"], true);
    has(&refused(&set_of(root), "ant"), &["0.jpg", "0.png", "same frame", "remove one"]);
    make(root, "JPEGImages/480p/bee", &["0.jpg"], false);
    make(root, "Annotations/480p/bee", &["0.png", "0.PNG"], true);
    has(&refused(&set_of(root), "bee"), &["0.PNG", "0.png", "mask of the same frame"]);
}

fn set_of(root: &Path) -> DavisFolder {
    open(root).unwrap()
}

#[test]
fn png_files_beside_other_frames_are_masks_only_where_no_folder_has_them() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let mixed = ["0.jpg", "1.png", "2.jpg"];
    make(root, "a", &mixed, false);
    make(root, "masks/a", &["0.png"], true);
    assert_eq!(outline(&set_of(root), "a").len(), 3);
    // Masks lie beside the frames; 1.png is neither.
    make(root, "b", &mixed, false);
    make(root, "b", &["0.png"], true);
    has(&refused(&set_of(root), "b"), &["1 of the PNG files", "1.png", "masks/b"]);
    fs::remove_file(root.join("b/1.png")).unwrap();
    assert_eq!(outline(&set_of(root), "b"), [("0".to_owned(), true), ("2".to_owned(), false)]);
}

#[test]
fn frames_are_in_the_order_of_their_numbers() {
    let root = tempfile::tempdir().unwrap();
    for (folder, frames) in [("a", ["9.jpg", "10.jpg", "100.jpg"]), ("b", ["f2 x.jpg", "f010.jpg", "g1.jpg"])] {
        make(root.path(), folder, &frames, false);
        let first = frames[0].replace("jpg", "png");
        make(root.path(), folder, &[first.as_str()], true);
        let set = open(root.path()).unwrap();
        assert_eq!(outline(&set, folder).iter().map(|(n, _)| format!("{n}.jpg")).collect::<Vec<_>>(), frames);
        for (i, grey) in [0, 40, 80].into_iter().enumerate() {
            assert_eq!(set.frame(folder, i).unwrap().pixels[0], grey);
        }
    }
}

#[test]
fn davis_2016_lists_frames_and_has_one_object() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    davis(root);
    fs::rename(root.join("ImageSets/2017"), root.join("ImageSets/480p")).unwrap();
    let lines = |name, n| {
        (0..n).map(move |i| format!("/JPEGImages/480p/{name}/{i:05}.jpg /Annotations/480p/{name}/{i:05}.png\n"))
    };
    fs::write(root.join("ImageSets/480p/val.txt"), lines("cat", 3).chain(lines("ant", 2)).collect::<String>()).unwrap();
    let mask = |pixels: [u8; 48]| image::GrayImage::from_raw(8, 6, pixels.to_vec()).unwrap();
    let mut pixels = [0; 48];
    pixels[..3].copy_from_slice(&[255, 1, 128]);
    mask(pixels).save(root.join("Annotations/480p/cat/00000.png")).unwrap();
    image::DynamicImage::from(mask(pixels)).to_rgba8().save(root.join("Annotations/480p/cat/00001.png")).unwrap();

    has(&open(root).unwrap_err().to_string(), &["2017", "480p", "the year 2016"]);
    let set = DavisFolder::open(root, "2016", "val", "480p").unwrap();
    assert_eq!(set.sequences(), ["cat", "ant"]);
    let one: Vec<u8> = pixels.iter().map(|&p| u8::from(p > 0)).collect();
    for frame in 0..2 {
        assert_eq!(set.mask("cat", frame).unwrap().unwrap().ids, one);
    }
    assert_eq!(set.mask("cat", 2).unwrap().unwrap().ids, [1; 48]); // the index 3
    assert_eq!(set.palette("cat").unwrap(), None);
    assert_eq!(set.palette("ant").unwrap().unwrap()[..6], [0, 0, 0, 128, 0, 0]);

    // Lists of names, as in the release of 2017, win.
    fs::create_dir(root.join("ImageSets/2016")).unwrap();
    fs::write(root.join("ImageSets/2016/val.txt"), "ant").unwrap();
    assert_eq!(DavisFolder::open(root, "2016", "val", "480p").unwrap().sequences(), ["ant"]);
}

#[test]
fn masks_of_0_and_255_are_no_ids() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), "cat", &JPG, false);
    let path = root.path().join("cat/00000.png");
    image::GrayImage::from_fn(8, 6, |x, _| image::Luma([if x > 3 { 255 } else { 0 }])).save(&path).unwrap();
    has(&open(root.path()).unwrap().mask("cat", 0).unwrap_err().to_string(), &["cat/00000.png", "255", "year 2016"]);
    let set = DavisFolder::open(root.path(), "2016", "val", "480p").unwrap();
    assert_eq!(set.mask("cat", 0).unwrap().unwrap().ids[..8], [0, 0, 0, 0, 1, 1, 1, 1]);
}

#[test]
fn youtube_vos_has_no_resolutions_and_no_splits() {
    let root = tempfile::tempdir().unwrap();
    let valid = root.path().join("valid");
    let frames: Vec<_> = (0..=10).map(|i| format!("{i:05}.jpg")).collect();
    make(&valid, "JPEGImages/0a49f5265b", &frames.iter().map(String::as_str).collect::<Vec<_>>(), false);
    make(&valid, "Annotations/0a49f5265b", &["00000.png", "00005.png", "00010.png"], true);
    make(&valid, "JPEGImages/003234408d", &JPG, false);
    make(&valid, "Annotations/003234408d", &PNG[..1], true);
    make(&valid, "JPEGImages/ffff", &[], false);
    fs::write(valid.join("meta.json"), "{}").unwrap();
    let set = open(&valid).unwrap();
    assert_eq!(set.sequences(), ["003234408d", "0a49f5265b", "ffff"]);
    let masks = outline(&set, "0a49f5265b").into_iter().filter(|(_, mask)| *mask).map(|(name, _)| name);
    assert_eq!(masks.collect::<Vec<_>>(), ["00000", "00005", "00010"]);
    has(&refused(&set, "ffff"), &["JPEGImages/ffff", "no frames"]);
    has(&open(root.path()).unwrap_err().to_string(), &["did you mean", "valid?"]);
}

#[test]
fn plain_folders_of_frames_may_have_their_masks_in_several_places() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for (name, folder) in [("a", "Annotations/a"), ("b", "masks/b"), ("c", "c/masks"), ("d", "d")] {
        make(root, name, &JPG, false);
        make(root, folder, &PNG[..2], true);
    }
    make(root, "e", &PNG, false);
    make(root, "masks/e", &PNG[..1], true);
    make(root, "f", &PNG, false);
    make(root, "g", &JPG, false);
    make(root, ".hidden", &JPG, false);
    make(root, "__MACOSX", &[], false);
    fs::write(root.join("a/._00000.jpg"), "").unwrap();
    let set = open(root).unwrap();
    assert_eq!(set.sequences(), ["a", "b", "c", "d", "e", "f", "g"]);
    for name in ["a", "b", "c", "d"] {
        let masks: Vec<_> = outline(&set, name).into_iter().map(|(_, mask)| mask).collect();
        assert_eq!(masks, [true, true, false], "{name}");
    }
    assert_eq!(outline(&set, "e").len(), 3);
    let error = refused(&set, "f");
    has(&error, &["f/00000.png", "Annotations/f", "masks/f", "f/masks"]);
    assert!(!error.contains("f/masks or"), "{error}");
    has(&refused(&set, "g"), &["no mask 00000.png", "g/00000.jpg", "g/masks or"]);

    // A split chooses here, too.
    fs::create_dir_all(root.join("ImageSets/2017")).unwrap();
    fs::write(root.join("ImageSets/2017/val.txt"), "b").unwrap();
    assert_eq!(open(root).unwrap().sequences(), ["b"]);
}

#[test]
fn an_unknown_layout_is_told_what_is_understood() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let error = || open(root).unwrap_err().to_string();
    let root_name = root.display().to_string();
    has(&error(), &[&root_name, "DAVIS", "YouTube-VOS", "ImageSets/<year>/<split>.txt", "NAME/masks"]);
    make(root, "masks", &PNG, true);
    has(&error(), &["DAVIS"]);
    make(root, ".", &JPG, false);
    has(&error(), &["DAVIS", "has frames itself"]);
    has(&open(&root.join("nowhere")).unwrap_err().to_string(), &["nowhere"]);
    make(root, "JPEGImages", &JPG, false);
    has(&error(), &["JPEGImages", "480p"]);
}

/// The file of `picture` with an EXIF orientation: a segment of a JPEG file, or a chunk of a PNG file.
fn oriented(picture: &image::RgbImage, jpeg: bool, orientation: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let format = if jpeg { image::ImageFormat::Jpeg } else { image::ImageFormat::Png };
    picture.write_to(&mut bytes, format).unwrap();
    let mut bytes = bytes.into_inner();
    // Big-endian, one entry: tag 0x0112, one short.
    let tiff = [b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0", &[orientation][..], &[0; 6]].concat();
    let (at, part) = if jpeg {
        let content = [b"Exif\0\0", &tiff[..]].concat();
        let length = (content.len() as u16 + 2).to_be_bytes();
        (2, [&[0xff, 0xe1], &length[..], &content].concat())
    } else {
        let content = [b"eXIf", &tiff[..]].concat();
        (33, [&(tiff.len() as u32).to_be_bytes(), &content[..], &png_crc(&content).to_be_bytes()].concat())
    };
    bytes.splice(at..at, part);
    bytes
}

fn png_crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn frames_are_turned_as_opencv_turns_them_and_masks_must_fit() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let picture = image::RgbImage::from_fn(24, 16, |x, y| image::Rgb([x as u8 * 10, y as u8 * 15, (x / 8) as u8 * 90]));
    for (jpeg, name) in [(true, "0.jpg"), (false, "0.png")] {
        for orientation in 1..=8 {
            let folder = root.join("JPEGImages/480p/cat");
            fs::create_dir_all(&folder).unwrap();
            let path = folder.join(name);
            fs::write(&path, oriented(&picture, jpeg, 1)).unwrap();
            make(root, "Annotations/480p/cat", &[], true);
            let mask = root.join("Annotations/480p/cat/0.png");
            write_mask(&mask, &Mask { width: 24, height: 16, ids: vec![1; 384] }).unwrap();
            let stored = set_of(root).frame("cat", 0).unwrap();
            let mut want = image::DynamicImage::from(image::RgbImage::from_raw(24, 16, stored.pixels).unwrap());
            want.apply_orientation(image::metadata::Orientation::from_exif(orientation).unwrap());
            fs::write(&path, oriented(&picture, jpeg, orientation)).unwrap();
            let got = set_of(root).frame("cat", 0).unwrap();
            assert_eq!(
                (got.width, got.height),
                (want.width() as usize, want.height() as usize),
                "{name} {orientation}"
            );
            assert_eq!(got.pixels, want.into_rgb8().into_raw(), "{name} {orientation}");
            // The mask fits the frame as it is stored, and after half a turn or a reflection.
            let fits = set_of(root).mask("cat", 0);
            if orientation < 5 {
                assert!(fits.is_ok(), "{fits:?}");
                continue;
            }
            has(
                &fits.unwrap_err().to_string(),
                &["0.png", "24 x 16", "16 x 24", "EXIF orientation", "as it is stored"],
            );
            write_mask(&mask, &Mask { width: 16, height: 24, ids: vec![1; 384] }).unwrap();
            assert!(set_of(root).mask("cat", 0).is_ok());
            write_mask(&mask, &Mask { width: 9, height: 24, ids: vec![1; 216] }).unwrap();
            let error = set_of(root).mask("cat", 0).unwrap_err().to_string();
            assert!(error.contains("9 x 24") && !error.contains("as it is stored"), "{error}");
        }
        fs::remove_dir_all(root.join("JPEGImages")).unwrap();
    }
}

#[test]
fn a_mask_has_the_size_of_its_frame() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), "cat", &JPG, false);
    make(root.path(), "cat", &PNG, true);
    for frame in [0, 1] {
        let path = root.path().join("cat").join(PNG[frame]);
        write_mask(&path, &Mask { width: 6, height: 8, ids: vec![1; 48] }).unwrap();
        let error = open(root.path()).unwrap().mask("cat", frame).unwrap_err().to_string();
        has(&error, &[PNG[frame], "6 x 8", JPG[frame], "8 x 6"]);
    }
    // A broken frame is the fault of the frame.
    fs::write(root.path().join("cat").join(JPG[2]), "no picture").unwrap();
    let set = open(root.path()).unwrap();
    assert!(set.mask("cat", 2).unwrap().is_some());
    has(&set.frame("cat", 2).unwrap_err().to_string(), &[JPG[2]]);
}

#[test]
fn grey_and_coloured_masks_are_ids_where_that_is_certain() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.png");
    let ids = |picture: image::DynamicImage| {
        picture.save(&path).unwrap();
        decode_mask(&path).map(|mask| mask.ids).map_err(|e| e.to_string())
    };
    let grey = |values: Vec<u16>| image::ImageBuffer::<image::Luma<u16>, _>::from_raw(2, 1, values).unwrap().into();
    assert_eq!(ids(grey(vec![3, 255])).unwrap(), [3, 255]);
    has(&ids(grey(vec![3, 256])).unwrap_err(), &["mask.png", "the id 256", "254 objects"]);

    // What is written with the palette is read back from its colours.
    let all = Mask { width: 16, height: 16, ids: (0..=255).collect() };
    write_mask(&path, &all).unwrap();
    let picture = image::open(&path).unwrap();
    assert_eq!(ids(picture.to_rgb8().into()).unwrap(), all.ids);
    assert_eq!(mask_palette(&path).unwrap(), None);
    assert_eq!(ids(picture.to_rgba8().into()).unwrap(), all.ids);
    has(&ids(picture.to_rgb16().into()).unwrap_err(), &["mask.png", "Rgb with 16 bits"]);
    let colour = |pixel| image::RgbaImage::from_pixel(1, 1, image::Rgba(pixel)).into();
    assert_eq!(ids(colour([128, 128, 0, 255])).unwrap(), [3]);
    for pixel in [[255, 0, 0, 255], [128, 0, 1, 255], [0, 0, 32, 255], [128, 0, 0, 254]] {
        has(&ids(colour(pixel)).unwrap_err(), &["mask.png", &format!("{pixel:?}")]);
    }
}

#[test]
fn palettes_are_kept_and_extended() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("cat/00000.png");
    make(root.path(), "cat", &JPG, false);
    let mask = |id: u8| Mask { width: 8, height: 6, ids: vec![id; 48] };
    let own = [1, 2, 3, 40, 50, 60];
    write_mask_with(&path, &mask(1), Some(&own)).unwrap();
    assert_eq!(open(root.path()).unwrap().palette("cat").unwrap().unwrap(), own);
    write_mask_with(&path, &mask(3), Some(&own)).unwrap();
    assert_eq!(mask_palette(&path).unwrap().unwrap(), [&own[..], &[0, 128, 0, 128, 128, 0]].concat());
    assert_eq!(decode_mask(&path).unwrap(), mask(3));
    write_mask_with(&path, &mask(255), Some(&[])).unwrap();
    let voc = mask_palette(&path).unwrap().unwrap();
    write_mask(&path, &mask(0)).unwrap();
    assert_eq!(mask_palette(&path).unwrap().unwrap(), voc);
    assert_eq!((voc.len(), &voc[255 * 3..]), (768, &[224, 224, 192][..]));
    for length in [1, 771] {
        has(
            &write_mask_with(&path, &mask(0), Some(&vec![0; length])).unwrap_err().to_string(),
            &["00000.png", "palette"],
        );
    }
    assert_eq!(decode_mask(&path).unwrap(), mask(0));
}

#[test]
fn a_mask_file_that_cannot_be_read_or_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mask = Mask { width: 16, height: 16, ids: (0..=255).collect() };
    let path = folder.path().join("mask.png");
    write_mask(&path, &mask).unwrap();
    let whole = fs::read(&path).unwrap();
    for cut in (0..whole.len()).step_by(7) {
        fs::write(&path, &whole[..cut]).unwrap();
        has(&decode_mask(&path).unwrap_err().to_string(), &["mask.png", "PNG"]);
        assert!(mask_palette(&path).is_err_and(|e| e.to_string().contains("mask.png")) || cut > 800);
    }
    fs::remove_file(&path).unwrap();
    has(&decode_mask(&path).unwrap_err().to_string(), &["mask.png"]);
    has(&mask_palette(&path).unwrap_err().to_string(), &["mask.png"]);

    fs::create_dir(&path).unwrap();
    has(&write_mask(&path, &mask).unwrap_err().to_string(), &["cannot access", "mask.png:"]);
    has(&write_mask(folder.path().join("no/mask.png"), &mask).unwrap_err().to_string(), &["no/mask.png:"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing partial is left");
}
