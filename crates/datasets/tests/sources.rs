//! Every source with small real files: lists, tar files, patterns, class folders, videos.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use selfpatch_datasets::{Access, Content, Decoding, ImageSource, Samples, open};

fn png(value: u8) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image::RgbImage::from_pixel(5, 4, image::Rgb([value; 3])).write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

fn access(cache: &Path) -> Access<'static> {
    Access { cache: cache.into(), ..Access::usual() }
}

fn opened(spec: impl AsRef<Path>) -> Arc<dyn ImageSource> {
    open(spec.as_ref().to_str().unwrap(), &access(Path::new("/nonexistent"))).unwrap()
}

fn refused(spec: impl AsRef<Path>) -> String {
    let text = spec.as_ref().to_str().unwrap();
    open(text, &access(Path::new("/nonexistent"))).map(|_| ()).unwrap_err().to_string()
}

/// The value of the first pixel.
fn value(source: &dyn ImageSource, index: usize) -> u8 {
    let Content::File(bytes) = source.read(index).unwrap() else { panic!("no file") };
    let Samples::Bytes(pixels) = Decoding::default().image(&bytes).unwrap().samples else { panic!("no bytes") };
    pixels[0]
}

/// Name, class and value of each image.
fn all(source: &dyn ImageSource) -> Vec<(String, Option<&str>, u8)> {
    let class = |i| source.label(i).map(|l| source.classes()[l as usize].as_str());
    (0..source.len()).map(|i| (source.name(i), class(i), value(source, i))).collect()
}

#[test]
fn folders_of_folders_are_classes() {
    let root = tempfile::tempdir().unwrap();
    for (name, v) in [("dog/x.png", 3), ("cat/deep/y.png", 1), ("cat/a.png", 2)] {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, png(v)).unwrap();
    }
    let source = opened(root.path());
    let expected = [
        ("cat/a.png".into(), Some("cat"), 2),
        ("cat/deep/y.png".into(), Some("cat"), 1),
        ("dog/x.png".into(), Some("dog"), 3),
    ];
    assert_eq!(all(&*source), expected);
    // An image beside the folders: then they are no classes.
    fs::write(root.path().join("z.png"), png(9)).unwrap();
    let more = opened(root.path());
    assert!((0..4).all(|i| more.label(i).is_none()) && more.classes().is_empty());
    // Identities are those of names: they stay when images come.
    assert_eq!(source.id(2), more.id(2));
}

#[test]
fn lists_name_their_images_and_stay_in_their_folder() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("sub/a b.png"), png(1)).unwrap();
    fs::write(at("c.png"), png(2)).unwrap();
    fs::write(at("list.txt"), "# mine\nsub/a b.png\n\nc.png\n").unwrap();
    fs::write(at("list.csv"), "label,image\n10,\"sub/a b.png\"\n9,c.png\n").unwrap();
    fs::write(at("bare.tsv"), "c.png\tx\nsub/a b.png\n").unwrap();
    let two = |a, b| [("sub/a b.png".to_string(), a, 1), ("c.png".to_string(), b, 2)];
    assert_eq!(all(&*opened(at("list.txt"))), two(None, None));
    let csv = opened(at("list.csv"));
    assert_eq!(all(&*csv), two(Some("10"), Some("9")));
    assert_eq!(csv.classes(), ["9", "10"]); // numbers in their order
    assert_eq!(all(&*opened(at("bare.tsv"))), [("c.png".into(), Some("x"), 2), ("sub/a b.png".into(), None, 1)]);
    // A path from the root is fine if it leads inside.
    fs::write(at("full.txt"), at("c.png").canonicalize().unwrap().to_str().unwrap()).unwrap();
    assert_eq!(opened(at("full.txt")).name(0), "c.png");

    for (outside, line) in [("../x.png", 2), ("/etc/passwd", 2), ("sub/../../x.png", 2)] {
        fs::write(at("out.txt"), format!("c.png\n{outside}\n")).unwrap();
        let error = refused(at("out.txt"));
        assert!(error.contains(&format!("line {line}: {outside}: leaves the folder")), "{error}");
    }
    fs::write(at("empty.csv"), "path\n").unwrap();
    assert!(refused(at("empty.csv")).contains("names no images"));
}

#[cfg(unix)]
#[test]
fn a_link_does_not_lead_out_of_a_list() {
    let root = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("x.png"), png(1)).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), root.path().join("out")).unwrap();
    fs::write(root.path().join("list.txt"), "out/x.png\n").unwrap();
    let error = opened(root.path().join("list.txt")).read(0).unwrap_err().to_string();
    assert!(error.contains("leads out of the folder"), "{error}");
}

fn write_tar(path: &Path, files: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, data) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        // Set by hand: the library would refuse names that lead outside.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *data).unwrap();
    }
    tar.finish().unwrap();
}

#[test]
fn tar_files_are_read_in_place() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    write_tar(
        &at("s-00.tar"),
        &[("a/0.png", &png(1)), ("a/0.cls", b"1"), ("a/0.json", b"{}"), ("a/1.png", &png(2)), ("a/1.cls", b"0\n")],
    );
    write_tar(&at("s-01.tar"), &[("2.cls", b"1"), ("2.png", &png(3)), ("../3.png", &png(4)), (".hidden.png", &png(5))]);
    let both = [
        ("s-00.tar/a/0.png".to_string(), Some("1"), 1),
        ("s-00.tar/a/1.png".into(), Some("0"), 2),
        ("s-01.tar/2.png".into(), Some("1"), 3),
    ];
    assert_eq!(all(&*opened(at("s-{00..01}.tar"))), both);
    assert_eq!(all(&*opened(at("s-*.tar"))), both);
    assert_eq!(all(&*opened(root.path())), both);
    assert_eq!(opened(at("s-01.tar")).name(0), "2.png");
    assert!(refused(at("s-{00..02}.tar")).contains("s-02.tar"));
    assert!(refused(at("t-*.tar")).contains("no file matches"));

    // What is cut off is bad when it is read; what comes before is not.
    let whole = fs::read(at("s-00.tar")).unwrap();
    let end = whole.windows(5).rposition(|w| w == b"ustar").unwrap() - 257; // the last header
    fs::write(at("cut.tar"), &whole[..end - 512 + 20]).unwrap();
    let cut = opened(at("cut.tar"));
    assert_eq!((cut.len(), value(&*cut, 0)), (2, 1));
    let error = cut.read(1).unwrap_err().to_string();
    assert!(error.contains("a/1.png") && error.contains("the tar file ends"), "{error}");

    fs::write(at("packed.tar.gz"), b"\x1f\x8b\x08\0rest").unwrap();
    assert!(refused(at("packed.tar.gz")).contains("gunzip"));
    write_tar(&at("none.tar"), &[("x.txt", b"text")]);
    assert!(refused(at("none.tar")).contains("no images"));
}

#[test]
fn names_in_tar_files_have_a_limit() {
    let root = tempfile::tempdir().unwrap();
    for (length, accepted) in [(300, true), (2 << 20, false)] {
        let path = root.path().join(format!("{length}.tar"));
        let mut tar = tar::Builder::new(fs::File::create(&path).unwrap());
        let (image, name) = (png(1), vec![b'n'; length]);
        for (kind, name, data) in [(b'L', "././@LongLink", &name), (b'0', "short.png", &image)] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::new(kind));
            header.set_path(name).unwrap();
            header.set_size(data.len() as u64);
            header.set_cksum();
            tar.append(&header, &data[..]).unwrap();
        }
        write_more(tar, &image);
        if accepted {
            assert_eq!(opened(path).len(), 1);
        } else {
            assert!(refused(path).contains("more than 1048576 bytes"));
        }
    }
}

/// An image with a short name at the end of a tar file.
fn write_more(mut tar: tar::Builder<fs::File>, image: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_path("x.png").unwrap();
    header.set_size(image.len() as u64);
    header.set_cksum();
    tar.append(&header, image).unwrap();
    tar.finish().unwrap();
}

#[test]
fn a_file_beyond_every_limit_is_not_read() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("holes.png");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap(); // a hole: takes no space
    let error = opened(path).read(0).unwrap_err().to_string();
    assert!(error.contains("holes.png") && error.contains("bytes"), "{error}");
}

#[test]
fn what_is_no_source_is_told_so() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    assert!(refused(at("gone")).contains("gone"));
    assert!(refused(root.path()).contains("no images"));
    fs::write(at("x.pdf"), "x").unwrap();
    assert!(refused(at("x.pdf")).contains("is not a source of images"));
    #[cfg(not(feature = "parquet"))]
    {
        fs::write(at("x.parquet"), "x").unwrap();
        assert!(refused(at("x.parquet")).contains("--features parquet"));
    }
    #[cfg(not(feature = "hub"))]
    assert!(refused("hf://o/n").contains("--features hub"));
}
