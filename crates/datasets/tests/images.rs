//! Folders of images: what is found, what is refused, and which file an error names.

use std::fs;
use std::path::Path;

use selfpatch_datasets::{
    Content, Decoding, Error, Image, ImageFolder, ImageSource, ProceduralImages, Samples, decode,
};

/// The pixels of an image of a source.
fn load(source: &dyn ImageSource, index: usize) -> Result<Image, Error> {
    Ok(match source.read(index)? {
        Content::File(bytes) => Decoding::default().image(&bytes).unwrap(),
        Content::Image(image) => image,
    })
}

fn bytes(image: &Image) -> &[u8] {
    match &image.samples {
        Samples::Bytes(v) => v,
        Samples::Floats(_) => panic!("floats"),
    }
}

fn save(path: &Path, colour: [u8; 3]) {
    image::RgbImage::from_pixel(5, 4, image::Rgb(colour)).save(path).unwrap();
}

#[test]
fn images_at_any_depth_are_found_in_order_of_their_paths() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir_all(at("b/deep")).unwrap();
    fs::create_dir_all(at(".cache")).unwrap();
    save(&at("b/deep/z.png"), [3, 3, 3]);
    save(&at("b/one.png"), [2, 2, 2]);
    save(&at("a.bmp"), [1, 1, 1]);
    save(&at(".hidden.png"), [9, 9, 9]);
    save(&at(".cache/c.png"), [9, 9, 9]);
    fs::write(at("notes.txt"), "no image").unwrap();
    fs::rename(at("a.bmp"), at("a.TIFF")).unwrap(); // any case, and content before extension

    let folder = ImageFolder::open(root.path()).unwrap();
    let names: Vec<_> = (0..folder.len()).map(|i| folder.name(i)).collect();
    assert_eq!(names, ["a.TIFF", "b/deep/z.png", "b/one.png"]);
    let reds: Vec<_> = (0..3).map(|i| bytes(&load(&folder, i).unwrap())[0]).collect();
    assert_eq!(reds, [1, 3, 2]);
    assert!(matches!(folder.read(3), Err(Error::Missing { .. })));
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    use std::os::unix::fs::symlink;
    let root = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    save(&elsewhere.path().join("far.png"), [1, 1, 1]);
    save(&root.path().join("near.png"), [2, 2, 2]);
    symlink(elsewhere.path(), root.path().join("class")).unwrap();
    symlink(root.path(), elsewhere.path().join("back")).unwrap();
    symlink(root.path().join("near.png"), root.path().join("also.png")).unwrap();
    let folder = ImageFolder::open(root.path()).unwrap();
    let names: Vec<_> = (0..folder.len()).map(|i| folder.name(i)).collect();
    assert_eq!(names, ["also.png", "class/far.png", "near.png"]);

    symlink("/nowhere/gone.png", root.path().join("gone.png")).unwrap();
    let folder = ImageFolder::open(root.path()).unwrap();
    assert_eq!((folder.len(), folder.name(2).as_str()), (4, "gone.png"));
    assert!(folder.read(2).unwrap_err().to_string().contains("gone.png"));
}

#[test]
fn missing_empty_and_wrong_paths_are_told_apart() {
    let root = tempfile::tempdir().unwrap();
    let error = ImageFolder::open(root.path().join("gone")).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("gone")), "{error}");
    let error = ImageFolder::open(root.path()).unwrap_err().to_string();
    assert!(error.contains("no images") && error.contains("jpg"), "{error}");
    let file = root.path().join("x.png");
    save(&file, [0, 0, 0]);
    let error = ImageFolder::open(&file).unwrap_err().to_string();
    assert!(error.contains("x.png") && error.contains("folder"), "{error}");
}

#[test]
fn corrupt_files_are_named() {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole.jpg");
    image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8 * 3, y as u8 * 5, (x ^ y) as u8]))
        .save(&whole)
        .unwrap();
    let bytes = fs::read(&whole).unwrap();
    assert!(decode(&whole).is_ok());
    for (name, content) in [
        ("empty.jpg", &[][..]),
        ("truncated.jpg", &bytes[..bytes.len() / 2]),
        ("noise.jpg", b"this is no picture".as_slice()),
        ("header.png", b"\x89PNG\r\n\x1a\n"),
    ] {
        let path = root.path().join(name);
        fs::write(&path, content).unwrap();
        let error = decode(&path).unwrap_err();
        assert!(matches!(error, Error::Decode { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn procedural_images_repeat_and_differ() {
    let images = ProceduralImages::new(3, 4, 96);
    let again = ProceduralImages::new(3, 4, 96);
    let all: Vec<_> = (0..4).map(|i| load(&images, i).unwrap()).collect();
    assert!(all.iter().enumerate().all(|(i, image)| *image == load(&again, i).unwrap()));
    assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
    assert_ne!(load(&ProceduralImages::new(4, 4, 96), 0).unwrap(), all[0]);
    assert!(images.read(4).is_err());
    for image in all {
        // Neither flat nor saturated: light and palettes keep most values in between.
        let (low, high) = (bytes(&image).iter().min().unwrap(), bytes(&image).iter().max().unwrap());
        assert!(high - low > 60);
        let clipped = bytes(&image).iter().filter(|&&v| v == 0 || v == 255).count();
        assert!(clipped < bytes(&image).len() / 4, "{clipped}");
    }
    // Sizes that no one should use still work.
    for size in [0, 1, 2, 17] {
        assert_eq!(load(&ProceduralImages::new(0, 1, size), 0).unwrap().samples.len(), size * size * 3);
    }
}
