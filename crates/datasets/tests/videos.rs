//! Videos: procedural ones, and the folder layout of DAVIS.

use std::fs;
use std::path::Path;

use selfpatch_datasets::{Content, DavisFolder, Error, Mask, ProceduralImages, ProceduralVideos, Samples, VideoSource};
use selfpatch_datasets::{ImageSource, write_mask};

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

/// A DAVIS folder with the sequences cat (3 frames, 3 masks) and ant (2 frames, 1 mask).
fn davis(root: &Path) {
    for (name, frames, masks) in [("cat", 3, 3), ("ant", 2, 1)] {
        let images = root.join("JPEGImages/480p").join(name);
        let annotations = root.join("Annotations/480p").join(name);
        fs::create_dir_all(&images).unwrap();
        fs::create_dir_all(&annotations).unwrap();
        for i in 0..frames {
            let grey = image::Rgb([40 * i as u8; 3]);
            image::RgbImage::from_pixel(8, 6, grey).save(images.join(format!("{i:05}.jpg"))).unwrap();
        }
        for i in 0..masks {
            let mask = Mask { width: 8, height: 6, ids: vec![i as u8 + 1; 48] };
            write_mask(annotations.join(format!("{i:05}.png")), &mask).unwrap();
        }
    }
    fs::create_dir_all(root.join("ImageSets/2017")).unwrap();
    fs::write(root.join("ImageSets/2017/val.txt"), "cat\nant\n\n").unwrap();
    fs::write(root.join("ImageSets/2017/train.txt"), "ant\r\n").unwrap();
}

#[test]
fn davis_frames_and_masks_are_matched_by_name() {
    let root = tempfile::tempdir().unwrap();
    davis(root.path());
    let set = DavisFolder::open(root.path(), "2017", "val", "480p").unwrap();
    assert_eq!(set.sequences(), ["cat", "ant"]);
    assert_eq!((set.frames("cat").unwrap(), set.frames("ant").unwrap()), (3, 2));
    assert_eq!(set.frame("cat", 2).unwrap().pixels[0], 80);
    assert_eq!(set.mask("cat", 2).unwrap().unwrap().ids, [3; 48]);
    assert_eq!(set.mask("ant", 1).unwrap(), None);
    assert!(set.frame("cat", 3).unwrap_err().to_string().contains("frame 3 in cat"));
    assert_eq!(DavisFolder::open(root.path(), "2017", "train", "480p").unwrap().sequences(), ["ant"]);

    let names = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    assert_eq!(set.clone().with_sequences(&names(&["ant"])).unwrap().sequences(), ["ant"]);
    let error = set.with_sequences(&names(&["dog"])).unwrap_err().to_string();
    assert!(error.contains("dog") && error.contains("cat, ant"), "{error}");
}

#[test]
fn davis_names_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let open = |year: &str, split: &str, resolution: &str| {
        DavisFolder::open(root.path(), year, split, resolution).unwrap_err().to_string()
    };
    assert!(open("2017", "val", "480p").contains("ImageSets/<year>/<split>.txt"));
    davis(root.path());
    assert!(open("2017", "test", "480p").contains("train, val"), "{}", open("2017", "test", "480p"));
    assert!(open("2016", "val", "480p").contains("2017"));
    assert!(open("2017", "val", "1080p").contains("1080p"));
    let list = root.path().join("ImageSets/2017/bad.txt");
    for name in ["../../secret", "/etc", "..", "a/b"] {
        fs::write(&list, name).unwrap();
        assert!(open("2017", "bad", "480p").contains("not the name of a sequence"));
    }
    fs::write(&list, "\n").unwrap();
    assert!(open("2017", "bad", "480p").contains("no sequences"));
    fs::remove_file(root.path().join("Annotations/480p/ant/00000.png")).unwrap();
    let error = open("2017", "train", "480p");
    assert!(error.contains("no mask") && error.contains("00000.jpg"), "{error}");
}
