//! IDX and CIFAR files, made here byte by byte.
#![cfg(feature = "candle-datasets")]

use std::fs;
use std::path::Path;

use selfpatch_datasets::{Access, Content, Error, ImageSource, Samples, open};

const IMAGES: usize = 12;
const SHAPE: (usize, usize, usize) = (7, 5, 1);
const RECORD: usize = 3073;

fn opened(spec: &Path) -> Result<std::sync::Arc<dyn ImageSource>, Error> {
    open(spec.to_str().unwrap(), &Access::usual())
}

fn with_split(folder: &Path, split: &str) -> std::path::PathBuf {
    format!("{}#{split}", folder.display()).into()
}

fn refused(spec: &Path) -> String {
    opened(spec).map(|_| ()).unwrap_err().to_string()
}

/// Shape and bytes of an image.
fn image(source: &dyn ImageSource, index: usize) -> ((usize, usize, usize), Vec<u8>) {
    let Content::Image(image) = source.read(index).unwrap() else { panic!("no pixels") };
    let Samples::Bytes(bytes) = image.samples else { panic!("no bytes") };
    ((image.width, image.height, image.channels), bytes)
}

/// Bytes that differ from image to image and pass through all values.
fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + seed * 97) as u8).collect()
}

fn idx(magic: u32, sizes: &[u32], content: &[u8]) -> Vec<u8> {
    let words = std::iter::once(magic).chain(sizes.iter().copied());
    words.flat_map(u32::to_be_bytes).chain(content.iter().copied()).collect()
}

/// The four files; the test split has half as many images.
fn write_idx(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for (prefix, seed, count) in [("train", 1, IMAGES), ("t10k", 2, IMAGES / 2)] {
        let labels: Vec<u8> = (0..count).map(|i| (i % 10) as u8).collect();
        let pixels = bytes(seed, count * 35);
        let write = |name: String, bytes| fs::write(folder.join(name), bytes).unwrap();
        write(format!("{prefix}-images-idx3-ubyte"), idx(2051, &[count as u32, 5, 7], &pixels));
        write(format!("{prefix}-labels-idx1-ubyte"), idx(2049, &[count as u32], &labels));
    }
}

#[test]
fn idx_files_are_read_as_they_are() {
    let root = tempfile::tempdir().unwrap();
    write_idx(root.path());
    for (spec, split, seed, count) in [
        (root.path().to_path_buf(), "train", 1, IMAGES),
        (with_split(root.path(), "train"), "train", 1, IMAGES),
        (with_split(root.path(), "test"), "test", 2, IMAGES / 2),
        (root.path().join("train-labels-idx1-ubyte"), "train", 1, IMAGES),
        (root.path().join("t10k-images-idx3-ubyte"), "test", 2, IMAGES / 2),
    ] {
        let source = opened(&spec).unwrap();
        assert_eq!(source.len(), count);
        let pixels = bytes(seed, count * 35);
        for i in 0..count {
            assert_eq!(source.name(i), format!("{split}-{i:06}"));
            assert_eq!(source.classes()[source.label(i).unwrap() as usize], (i % 10).to_string());
            assert_eq!(image(&*source, i), (SHAPE, pixels[i * 35..][..35].to_vec()));
        }
        assert!(source.read(count).unwrap_err().to_string().contains("no image"));
    }
    assert!(refused(&with_split(root.path(), "dev")).contains("no split \"dev\"; there are train and test"));
}

#[test]
fn splits_may_differ_in_shape() {
    let root = tempfile::tempdir().unwrap();
    write_idx(root.path());
    fs::write(root.path().join("t10k-images-idx3-ubyte"), idx(2051, &[6, 2, 3], &bytes(3, 36))).unwrap();
    let source = opened(&with_split(root.path(), "test")).unwrap();
    assert_eq!(image(&*source, 5), ((3, 2, 1), bytes(3, 36)[30..].to_vec()));
}

#[test]
fn folders_as_torchvision_makes_them_are_found() {
    let root = tempfile::tempdir().unwrap();
    write_idx(&root.path().join("MNIST/raw"));
    assert_eq!(opened(root.path()).unwrap().len(), IMAGES);
    assert_eq!(opened(&with_split(root.path(), "test")).unwrap().len(), IMAGES / 2);
    assert_eq!(opened(&root.path().join("MNIST")).unwrap().len(), IMAGES);
    write_idx(&root.path().join("FashionMNIST/raw"));
    let error = refused(root.path());
    assert!(error.contains("give one of them") && error.contains("FashionMNIST/raw"), "{error}");
}

#[test]
fn idx_files_that_lie_are_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let most = u32::MAX;
    let images = "train-images-idx3-ubyte";
    let labels = "t10k-labels-idx1-ubyte";
    let whole = idx(2051, &[12, 5, 7], &bytes(1, 420));
    let cases: [(&str, Vec<u8>, &str); 12] = [
        (images, idx(2049, &[12, 5, 7], &bytes(1, 420)), "does not begin with the number 2051"),
        (images, b"\x1f\x8b\x08\0packed".to_vec(), "does not begin with the number 2051"),
        (images, Vec::new(), "does not begin"),
        (images, whole[..14].to_vec(), "ends in its header"),
        (images, whole[..whole.len() - 1].to_vec(), "has 435 bytes, which are not the 12 x 5 x 7 values"),
        (images, [&whole[..], b"x"].concat(), "has 437 bytes"),
        (images, idx(2051, &[most, most, most], &bytes(1, 420)), "4294967295 x 4294967295 x 4294967295"),
        (images, idx(2051, &[most, most, 1], &bytes(1, 420)), "values of its header"),
        (images, idx(2051, &[12, 0, 7], &[]), "is empty"),
        (labels, idx(2049, &[most], &[0; 6]), "has 14 bytes, which are not the 4294967295 values"),
        (labels, idx(2049, &[5], &[0; 5]), "has 5 labels for the 6 images of"),
        (labels, idx(2049, &[7], &[0; 7]), "has 7 labels for the 6 images of"),
    ];
    for (name, content, expected) in cases {
        write_idx(root.path());
        fs::write(root.path().join(name), content).unwrap();
        for split in ["train", "test"] {
            let error = refused(&with_split(root.path(), split));
            assert!(error.contains(name) && error.contains(expected), "{error}");
        }
    }
}

#[test]
fn missing_and_compressed_files_are_named() {
    let root = tempfile::tempdir().unwrap();
    write_idx(root.path());
    let at = |name: &str| root.path().join(name);
    fs::rename(at("t10k-labels-idx1-ubyte"), at("t10k-labels-idx1-ubyte.gz")).unwrap();
    let error = refused(root.path());
    assert!(error.contains("t10k-labels-idx1-ubyte: is compressed") && error.contains("gunzip "), "{error}");
    fs::remove_file(at("t10k-labels-idx1-ubyte.gz")).unwrap();
    let error = refused(root.path());
    assert!(error.contains("t10k-labels-idx1-ubyte: is missing; an IDX data set has four files"), "{error}");

    // All of them as they are downloaded.
    let packed = tempfile::tempdir().unwrap();
    for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"] {
        fs::write(packed.path().join(format!("{name}.gz")), b"\x1f\x8b").unwrap();
    }
    assert!(refused(packed.path()).contains("gunzip "), "{}", refused(packed.path()));
    assert!(refused(&packed.path().join("train-images-idx3-ubyte.gz")).contains("gunzip "));
}

#[test]
fn other_sources_have_no_splits() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("x.png"), b"").unwrap();
    let error = refused(&with_split(root.path(), "test"));
    assert!(error.contains("no split \"test\"") && error.contains("is read whole"), "{error}");
}

/// A file of `count` records: a class, then one plane per colour.
fn batch(seed: usize, count: usize) -> Vec<u8> {
    let record = |i: usize| [vec![((seed + i) % 10) as u8], bytes(seed * 1000 + i, RECORD - 1)].concat();
    (0..count).flat_map(record).collect()
}

/// What record `i` of such a file is.
fn assert_record(source: &dyn ImageSource, index: usize, seed: usize, i: usize) {
    let planes = bytes(seed * 1000 + i, RECORD - 1);
    let (shape, pixels) = image(source, index);
    assert_eq!(shape, (32, 32, 3));
    assert!(pixels.iter().enumerate().all(|(at, &v)| v == planes[at % 3 * 1024 + at / 3]), "image {index}");
    assert_eq!(source.label(index), Some(((seed + i) % 10) as u32));
}

const TRAIN: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];

#[test]
fn parts_of_cifar_are_read() {
    let root = tempfile::tempdir().unwrap();
    for (seed, name) in TRAIN.iter().enumerate() {
        fs::write(root.path().join(name), batch(seed, 3)).unwrap();
    }
    fs::write(root.path().join("test_batch.bin"), batch(7, 2)).unwrap();
    let train = opened(root.path()).unwrap();
    assert_eq!((train.len(), train.name(14)), (15, "train-000014".into()));
    (0..15).for_each(|i| assert_record(&*train, i, i / 3, i % 3));
    assert_eq!(train.classes()[1], "automobile");
    for spec in [with_split(root.path(), "test"), root.path().join("test_batch.bin")] {
        let test = opened(&spec).unwrap();
        assert_eq!((test.len(), test.name(0)), (2, "test-000000".into()));
        (0..2).for_each(|i| assert_record(&*test, i, 7, i));
    }

    // Some of the batches, as one level down.
    let some = tempfile::tempdir().unwrap();
    let below = some.path().join("cifar-10-batches-bin");
    fs::create_dir(&below).unwrap();
    fs::write(below.join(TRAIN[2]), batch(2, 4)).unwrap();
    for spec in [some.path(), &below, &below.join(TRAIN[2])] {
        let train = opened(spec).unwrap();
        assert_eq!(train.len(), 4);
        assert_record(&*train, 3, 2, 3);
    }
    assert!(refused(&with_split(some.path(), "test")).contains("test_batch.bin: is missing"));
    fs::write(below.join("data_batch_4.bin.gz"), b"\x1f\x8b").unwrap();
    let error = refused(some.path());
    assert!(error.contains("data_batch_4.bin: is compressed") && error.contains("gunzip "), "{error}");
}

#[test]
fn broken_cifar_files_are_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(TRAIN[0]);
    for len in [0, 1, RECORD - 1, RECORD + 1] {
        fs::write(&path, &batch(0, 2)[..len]).unwrap();
        let error = refused(root.path());
        assert!(error.contains(TRAIN[0]) && error.contains("not whole records of 3073"), "{error}");
    }
    fs::write(&path, vec![10; RECORD]).unwrap();
    assert!(refused(root.path()).contains("train image 0 is of class 10"));
}

#[test]
#[ignore = "writes 184 MB, needs 1.6 GB of memory and 8 seconds: run it after changing how CIFAR is read"]
fn complete_cifar_is_read() {
    let root = tempfile::tempdir().unwrap();
    for (seed, name) in TRAIN.iter().enumerate() {
        fs::write(root.path().join(name), batch(seed, 10_000)).unwrap();
    }
    fs::write(root.path().join("test_batch.bin"), batch(7, 10_000)).unwrap();
    let train = opened(root.path()).unwrap();
    assert_eq!(train.len(), 50_000);
    (0..50_000).step_by(499).for_each(|i| assert_record(&*train, i, i / 10_000, i % 10_000));
    drop(train);
    let test = opened(&root.path().join("test_batch.bin")).unwrap();
    assert_eq!(test.len(), 10_000);
    (0..10_000).step_by(499).for_each(|i| assert_record(&*test, i, 7, i));
}
