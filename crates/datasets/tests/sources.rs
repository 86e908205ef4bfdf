//! Every source with small real files: lists, tar files, patterns, class folders, videos.

use std::cell::RefCell;
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

/// The source and what is said about it.
fn heard(spec: impl AsRef<Path>) -> (Arc<dyn ImageSource>, Vec<String>) {
    let said = RefCell::new(Vec::new());
    let say = |text: &str| said.borrow_mut().push(text.to_owned());
    let access = Access { cache: "/nonexistent".into(), say: &say, ..Access::usual() };
    let source = open(spec.as_ref().to_str().unwrap(), &access).unwrap();
    (source, said.take())
}

fn names(source: &dyn ImageSource) -> Vec<String> {
    (0..source.len()).map(|i| source.name(i)).collect()
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

#[test]
fn lists_are_read_as_windows_and_spreadsheets_write_them() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("sub/a b.png"), png(1)).unwrap();
    fs::write(at("c.png"), png(2)).unwrap();
    let wide = |text: &str, of: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(of).collect::<Vec<u8>>();
    let both = "sub/a b.png\r\nc.png\r\n";
    let lists: [(&str, Vec<u8>); 13] = [
        ("excel.csv", "sep=;\r\npath;label\r\nsub/a b.png;x\r\nc.png;y\r\n".into()),
        ("image_path.csv", "image_path,label\nsub/a b.png,x\nc.png,y\n".into()),
        ("species.csv", "id,filepath,species\n1,sub/a b.png,x\n2,c.png,y\n".into()),
        ("mark.txt", format!("\u{feff}{both}").into()),
        ("spaces.txt", "sub/a b.png  \t\r\n  c.png \r\n\r\n".into()),
        ("mac.txt", both.replace('\n', "").into()),
        ("quotes.txt", "\"sub/a b.png\"\n'c.png'\n".into()),
        ("windows.txt", "\u{feff}\"sub\\a b.png\"\r\nc.png".into()),
        ("utf16le.txt", wide(&format!("\u{feff}{both}"), u16::to_le_bytes)),
        ("utf16be.txt", wide(&format!("\u{feff}{both}"), u16::to_be_bytes)),
        ("mark.csv", "\u{feff}path,label\r\nsub/a b.png,x\r\nc.png,y\r\n".into()),
        ("semicolons.csv", "\u{feff}path;label\r\nsub\\a b.png;x\r\nc.png;y\r\n".into()),
        ("utf16.tsv", wide("\u{feff}file\tlabel\nsub/a b.png\tx\nc.png\ty\n", u16::to_le_bytes)),
    ];
    for (name, bytes) in lists {
        fs::write(at(name), bytes).unwrap();
        let class = |text| Some(text).filter(|_| !name.ends_with(".txt"));
        let two = [("sub/a b.png".to_string(), class("x"), 1), ("c.png".to_string(), class("y"), 2)];
        assert_eq!(all(&*opened(at(name))), two, "{name}");
    }
    for (bytes, reason) in [
        (&b"c.png\ncaf\xe9.png\n"[..], "latin.txt: is not UTF-8 text (line 2)"),
        (b"c\0.\0p\0n\0g\0\n\0", "latin.txt: is no text (line 1"),
    ] {
        fs::write(at("latin.txt"), bytes).unwrap();
        let error = refused(at("latin.txt"));
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn what_a_folder_holds_besides_is_counted_and_named_in_one_line() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(root.path().join(name), bytes).unwrap();
    for i in 0..4 {
        write(&format!("IMG_{i}.HEIC"), b"\0\0\0\x18ftypheic");
    }
    write("scan", &[&[0; 128][..], b"DICM"].concat());
    write("notes.txt", b"text");
    write("LICENSE", b"text");
    let error = refused(root.path());
    assert!(error.contains("no images") && error.contains("4 .heic (") && error.contains("1 .dcm (scan)"), "{error}");
    write("photo.jfif", &png(1));
    write("IMG_0001", &png(2));
    write("1.2.840.1", &png(3));
    write("photo.dng", b"II*\0");
    write("clip.mp4", b"");
    write("._x.png", b"");
    let (source, said) = heard(root.path());
    assert_eq!(names(&*source), ["1.2.840.1", "IMG_0001", "photo.jfif"]);
    let [line] = &said[..] else { panic!("{said:?}") };
    for part in [
        "4 .heic (",
        "1 .dcm (scan)",
        "1 .dng (photo.dng)",
        "1 videos beside them",
        "(clip.mp4)",
        "2 other files (1 .txt, 1 without extension)",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    // Without anything of the kind there is nothing to say; one file without extension is a source, too.
    let clean = tempfile::tempdir().unwrap();
    fs::write(clean.path().join("a"), png(4)).unwrap();
    assert_eq!(heard(clean.path()).1, [""; 0]);
    assert_eq!(all(&*opened(clean.path().join("a"))), [("a".into(), None, 4)]);
}

#[cfg(unix)]
#[test]
fn what_is_no_file_does_not_hang() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::write(at("a.png"), png(1)).unwrap();
    for name in ["p.png", "q.txt", "pipe.tar"] {
        assert!(std::process::Command::new("mkfifo").arg(at(name)).status().unwrap().success());
    }
    let _socket = std::os::unix::net::UnixListener::bind(at("s.jpg")).unwrap();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).unwrap();
    link("p.png", "to-pipe.png");
    link("/dev/zero", "zero.png");
    link(".", "loop");
    link("gone", "gone");
    link("self.jpg", "self.jpg");
    let (source, said) = heard(root.path());
    // A link of an image's name that leads nowhere is a bad image.
    assert_eq!(names(&*source), ["a.png", "self.jpg"]);
    assert!(source.read(1).is_err());
    let [line] = &said[..] else { panic!("{said:?}") };
    for part in [
        "6 named pipes, sockets and devices (",
        "p.png: a named pipe",
        "1 folders that links reach again (loop)",
        "1 links that lead nowhere (gone)",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    for name in ["p.png", "q.txt", "pipe.tar", "to-pipe.png", "*.tar"] {
        let error = refused(at(name));
        assert!(error.contains("is a named pipe, not a file"), "{error}");
    }
    assert!(refused("/dev/zero").contains("is a device, not a file"));
    fs::write(at("list.txt"), "a.png\np.png\ns.jpg\n").unwrap();
    let list = opened(at("list.txt"));
    assert_eq!(value(&*list, 0), 1);
    for (index, kind) in [(1, "named pipe"), (2, "socket")] {
        let error = list.read(index).unwrap_err().to_string();
        assert!(error.contains(&format!("is a {kind}, not a file")), "{error}");
    }
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

    for (name, start, program) in [
        ("packed.tar.gz", &b"\x1f\x8b\x08\0rest"[..], "gunzip < "),
        ("packed.tar.bz2", b"BZh91AY&SYrest", "bunzip2 < "),
        ("packed.tbz2", b"BZh91AY&SYrest", "bunzip2 < "),
        ("named.tar", b"BZh91AY&SYrest", "bunzip2 < "),
        ("packed.tar.xz", b"\xfd7zXZ\0rest", "unxz < "),
        ("packed.tar.zst", b"\x28\xb5\x2f\xfdrest", "unzstd < "),
    ] {
        fs::write(at(name), start).unwrap();
        let error = refused(at(name));
        assert!(error.contains(program), "{error}");
    }
    // Of several tar files one behind the other the first is read, and the others are told.
    let two = [fs::read(at("s-01.tar")).unwrap(), whole.clone()].concat();
    fs::write(at("two.tar"), two).unwrap();
    let (source, said) = heard(at("two.tar"));
    assert_eq!(source.len(), 1);
    assert!(said[0].contains("1 tar files with more behind their end"), "{said:?}");
    // Names of classes are those of images in any case.
    write_tar(&at("upper.tar"), &[("1.PNG", &png(1)), ("1.CLS", b"cat"), ("2.PNG", &png(2)), ("2.Cls", b"dog")]);
    let upper = [("1.PNG".to_string(), Some("cat"), 1), ("2.PNG".into(), Some("dog"), 2)];
    assert_eq!(all(&*opened(at("upper.tar"))), upper);
    write_tar(&at("none.tar"), &[("x.txt", b"text")]);
    assert!(refused(at("none.tar")).contains("no images"));
}

/// Appends a member of any type to the bytes of a tar file.
fn member(tar: &mut Vec<u8>, kind: u8, name: &str, link: &str, data: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(kind));
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.extend(header.as_bytes());
    tar.extend(data);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

/// The members that a tar file ends with.
fn end(tar: &mut Vec<u8>) {
    tar.resize(tar.len() + 1024, 0);
}

#[test]
fn links_and_repeated_names_in_tar_files_are_as_tar_unpacks_them() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.tar");
    let mut tar = Vec::new();
    member(&mut tar, b'5', "./a/", "", b"");
    member(&mut tar, b'0', "./a/0.png", "", &png(1));
    member(&mut tar, b'0', "blob", "", &png(5));
    member(&mut tar, b'1', "b/1.png", "a/0.png", b"");
    member(&mut tar, b'1', "b/2.png", "./blob", b"");
    member(&mut tar, b'1', "b/3", "a/0.png", b"");
    member(&mut tar, b'2', "c.png", "a/0.png", b"");
    member(&mut tar, b'1', "d.png", "nowhere.png", b"");
    member(&mut tar, b'6', "pipe.png", "", b"");
    member(&mut tar, b'0', "../out.png", "", &png(1));
    member(&mut tar, b'0', "twice.png", "", &png(6));
    member(&mut tar, b'0', "twice.png", "", &png(7));
    member(&mut tar, b'0', "a/0.cls", "", b"\xef\xbb\xbf4\r\n");
    member(&mut tar, b'1', "b/1.cls", "a/0.cls", b"");
    member(&mut tar, b'0', "a/0.json", "", b"{}");
    member(&mut tar, b'0', "a/0.txt", "", b"a caption");
    member(&mut tar, b'0', "e.heic", "", b"");
    member(&mut tar, b'0', "e.txt", "", b"beside no image");
    end(&mut tar);
    fs::write(&path, &tar).unwrap();
    let (source, said) = heard(&path);
    let expected = [
        ("a/0.png", Some("4"), 1),
        ("blob", None, 5),
        ("b/1.png", Some("4"), 1),
        ("b/2.png", None, 5),
        ("b/3", None, 1),
        ("twice.png", None, 7),
    ];
    assert_eq!(all(&*source), expected.map(|(name, class, value)| (name.to_string(), class, value)));
    let [line] = &said[..] else { panic!("{said:?}") };
    for part in [
        "1 symbolic links, which lead nowhere in a tar file (c.png)",
        "1 hard links to nothing that comes before them (d.png)",
        "1 named pipes and devices (pipe.png)",
        "1 members whose name leads out of the archive (../out.png)",
        "1 members whose name comes again, where the last counts (twice.png)",
        "1 .heic (e.heic)",
        "1 other files (1 .txt)",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }

    // Cut in a header and between members: what comes before is there, and the cut is told.
    for cut in [512 * 5 + 100, 512 * 5] {
        fs::write(&path, &tar[..cut]).unwrap();
        let (source, said) = heard(&path);
        assert!(!source.is_empty() && said.len() == 1 && said[0].contains("1 tar files that are cut off"), "{said:?}");
    }
    for (bytes, reason) in [(vec![], "no images"), (vec![0; 1024], "no images"), (vec![7; 600], "cannot be read as")] {
        fs::write(&path, bytes).unwrap();
        assert!(refused(&path).contains(reason), "{}", refused(&path));
    }
}

#[test]
fn classes_in_tar_files_that_cannot_be_read_are_named_and_train_nothing() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.tar");
    let mut tar = Vec::new();
    for (name, data) in [
        ("0.png", &png(1)[..]),
        ("0.cls", b"\xff\xfe1\0"),
        ("1.png", &png(2)),
        ("1.cls", b"7"),
        ("2.png", &png(3)),
        ("2.cls", &[b'9'; 5000]),
    ] {
        member(&mut tar, b'0', name, "", data);
    }
    end(&mut tar);
    fs::write(&path, &tar).unwrap();
    let (source, said) = heard(&path);
    let expected = [("0.png", None, 1), ("1.png", Some("7"), 2), ("2.png", None, 3)];
    assert_eq!(all(&*source), expected.map(|(name, class, value)| (name.to_string(), class, value)));
    let faults = source.class_faults();
    assert!(faults.len() == 2 && faults[0].starts_with("0.cls: ") && faults[1].contains("longer"), "{faults:?}");
    assert!(said.len() == 1 && said[0].contains("2 classes that cannot be read ("), "{said:?}");
}

#[test]
fn files_with_holes_in_tar_files_are_whole() {
    let root = tempfile::tempdir().unwrap();
    // A picture with a hole behind it and one with a hole in its middle, in the four formats that GNU tar writes.
    let (first, tail) = (png(9), [3; 7]);
    let size = 9000;
    let blocks = [(0, first.len()), (8192, tail.len())];
    let mut whole = vec![0; size];
    whole[..first.len()].copy_from_slice(&first);
    whole[8192..][..tail.len()].copy_from_slice(&tail);
    let mut stored = first.clone();
    stored.extend(tail);
    let pax = |records: &[(&str, String)]| -> Vec<u8> {
        let record = |(key, value): &(&str, String)| {
            let rest = format!(" {key}={value}\n");
            let length = (1..).map(|digits| rest.len() + digits).find(|n| n.to_string().len() + rest.len() == *n);
            format!("{}{rest}", length.unwrap())
        };
        records.iter().map(record).collect::<String>().into()
    };
    let mut tars: Vec<(&str, Vec<u8>)> = Vec::new();

    let mut tar = Vec::new();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_path("sp.png").unwrap();
    header.set_size(stored.len() as u64);
    let gnu = header.as_gnu_mut().unwrap();
    // The library that reads the headers wants parts that fill blocks, as GNU tar writes them.
    let (block, rest) = (first.len().next_multiple_of(512), size - 8192);
    let mut padded = first.clone();
    padded.resize(block, 0);
    padded.extend(&whole[8192..]);
    gnu.sparse[0].set_offset(0);
    gnu.sparse[0].set_length(block as u64);
    gnu.set_is_extended(true);
    gnu.set_real_size(size as u64);
    header.set_size(padded.len() as u64);
    header.set_cksum();
    tar.extend(header.as_bytes());
    let mut more = tar::GnuExtSparseHeader::new();
    more.sparse_mut()[0].set_offset(8192);
    more.sparse_mut()[0].set_length(rest as u64);
    tar.extend(more.as_bytes());
    tar.extend(&padded);
    tar.resize(tar.len().next_multiple_of(512), 0);
    tars.push(("old.tar", tar));

    let list: Vec<String> = blocks.iter().flat_map(|(at, len)| [at.to_string(), len.to_string()]).collect();
    let mut v00 = vec![("GNU.sparse.size", size.to_string())];
    for (at, len) in blocks {
        v00.extend([("GNU.sparse.offset", at.to_string()), ("GNU.sparse.numbytes", len.to_string())]);
    }
    let v01 = vec![
        ("GNU.sparse.size", size.to_string()),
        ("GNU.sparse.name", "sp.png".to_string()),
        ("GNU.sparse.map", list.join(",")),
    ];
    let v10 = vec![
        ("GNU.sparse.major", "1".to_string()),
        ("GNU.sparse.minor", "0".to_string()),
        ("GNU.sparse.name", "sp.png".to_string()),
        ("GNU.sparse.realsize", size.to_string()),
    ];
    let mut inside = format!("{}\n{}\n", blocks.len(), list.join("\n")).into_bytes();
    inside.resize(512, 0);
    inside.extend(&stored);
    for (name, records, inner, data) in [
        ("pax00.tar", v00, "sp.png", &stored),
        ("pax01.tar", v01, "GNUSparseFile.1/sp.png", &stored),
        ("pax10.tar", v10, "GNUSparseFile.1/sp.png", &inside),
    ] {
        let mut tar = Vec::new();
        member(&mut tar, b'x', "PaxHeaders.1/sp.png", "", &pax(&records));
        member(&mut tar, b'0', inner, "", data);
        tars.push((name, tar));
    }
    for (name, mut tar) in tars {
        member(&mut tar, b'1', "link.png", "sp.png", b"");
        member(&mut tar, b'0', "next.png", "", &png(2));
        end(&mut tar);
        let path = root.path().join(name);
        fs::write(&path, &tar).unwrap();
        let source = opened(&path);
        assert_eq!(names(&*source), ["sp.png", "link.png", "next.png"], "{name}");
        for index in [0, 1] {
            let Content::File(bytes) = source.read(index).unwrap() else { panic!("no file") };
            assert!(bytes == whole, "{name}");
        }
        assert_eq!(value(&*source, 2), 2);
    }
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
            // The long one is an image by its content.
            assert_eq!(opened(path).len(), 2);
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
    fs::write(at("x.heic"), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").unwrap();
    let error = refused(at("x.heic"));
    assert!(error.contains("HEIC by its content") && error.contains("magick mogrify"), "{error}");
    fs::write(at("x.gif"), "").unwrap();
    assert!(refused(at("x.gif")).contains("is by its name of a format that is not supported; convert"));
    #[cfg(not(feature = "parquet"))]
    {
        fs::write(at("x.parquet"), "x").unwrap();
        assert!(refused(at("x.parquet")).contains("--features parquet"));
    }
    #[cfg(not(feature = "hub"))]
    assert!(refused("hf://o/n").contains("--features hub"));
}
