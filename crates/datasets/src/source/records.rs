//! Small images in IDX files (MNIST and its relatives) and in CIFAR-10's binary files, held in memory.

use super::{Content, ImageSource, no_image};
use crate::{Error, Image, Samples};
use std::path::{Path, PathBuf};

/// Images of one size with a class each.
#[derive(Clone, Debug)]
pub struct Records {
    split: &'static str,
    width: usize,
    height: usize,
    channels: usize,
    /// `[N, H, W, C]`.
    pixels: Vec<u8>,
    labels: Vec<u8>,
    classes: Vec<String>,
}

/// The layout of a folder of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Idx,
    Cifar,
}

/// Every file of the layouts and its split.
const FILES: [(&str, Layout, &str); 10] = [
    ("train-images-idx3-ubyte", Layout::Idx, "train"),
    ("train-labels-idx1-ubyte", Layout::Idx, "train"),
    ("t10k-images-idx3-ubyte", Layout::Idx, "test"),
    ("t10k-labels-idx1-ubyte", Layout::Idx, "test"),
    ("data_batch_1.bin", Layout::Cifar, "train"),
    ("data_batch_2.bin", Layout::Cifar, "train"),
    ("data_batch_3.bin", Layout::Cifar, "train"),
    ("data_batch_4.bin", Layout::Cifar, "train"),
    ("data_batch_5.bin", Layout::Cifar, "train"),
    ("test_batch.bin", Layout::Cifar, "test"),
];

/// Where such files lie below the folder that is usually named.
const BELOW: [&str; 5] = ["raw", "MNIST/raw", "FashionMNIST/raw", "KMNIST/raw", "cifar-10-batches-bin"];

impl Layout {
    /// The layout and the split that a file belongs to by its name. Compressed files count: they are
    /// refused with advice.
    pub fn of_file(file: &Path) -> Option<(Self, &'static str)> {
        let name = file.file_name()?.to_str()?;
        let name = name.strip_suffix(".gz").unwrap_or(name);
        FILES.iter().find(|(known, ..)| *known == name).map(|&(_, layout, split)| (layout, split))
    }

    /// The folder with files of a layout: `folder`, or one of those below it that torchvision and
    /// CIFAR's archive make.
    pub fn below(folder: &Path) -> Result<Option<(PathBuf, Self)>, Error> {
        let of = |folder: PathBuf| {
            let has = |name: &str| folder.join(name).is_file() || folder.join(format!("{name}.gz")).is_file();
            let layout = FILES.iter().find(|(name, ..)| has(name)).map(|&(_, layout, _)| layout);
            layout.map(|layout| (folder, layout))
        };
        if let Some(found) = of(folder.to_path_buf()) {
            return Ok(Some(found));
        }
        let mut found = BELOW.iter().filter_map(|below| of(folder.join(below)));
        match (found.next(), found.next()) {
            (Some((one, _)), Some((two, _))) => {
                let reason = format!("has several data sets, give one of them: {}, {}", one.display(), two.display());
                Err(Error::layout(folder, reason))
            }
            (one, _) => Ok(one),
        }
    }
}

impl Records {
    /// Says how to get a program that reads these files.
    #[cfg(not(feature = "candle-datasets"))]
    pub(super) fn open(folder: &Path, _: Layout, _: &str) -> Result<Self, Error> {
        let reason = "IDX and CIFAR files need a build with --features candle-datasets (cargo xtask adds it by itself)";
        Err(Error::layout(folder, reason))
    }

    /// Reads the split `train` or `test` of a folder.
    #[cfg(feature = "candle-datasets")]
    pub(super) fn open(folder: &Path, layout: Layout, split: &str) -> Result<Self, Error> {
        let Some(split) = ["train", "test"].into_iter().find(|known| *known == split) else {
            let (what, valid) = (format!("split {split:?}"), "there are train and test".into());
            return Err(Error::Missing { what, valid });
        };
        match layout {
            Layout::Idx => read::idx(folder, split),
            Layout::Cifar => read::cifar(folder, split),
        }
    }
}

/// Files are verified first: candle-datasets allocates and multiplies whatever a header says, and does
/// not say which file is at fault.
#[cfg(feature = "candle-datasets")]
mod read {
    use super::{Error, FILES, Layout, Records};
    use candle_core::Tensor;
    use candle_datasets::vision::{Dataset, cifar, mnist};
    use std::fs::{self, File};
    use std::io::Read;
    use std::path::{Path, PathBuf};

    const CIFAR_CLASSES: [&str; 10] =
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    /// A side of CIFAR's images.
    const SIDE: usize = 32;
    /// A record of CIFAR: its class, then one plane for each of three colours.
    const RECORD: usize = 1 + 3 * SIDE * SIDE;
    /// A file of the complete CIFAR-10 has as many records.
    const COMPLETE: u64 = 10_000;

    pub fn idx(folder: &Path, split: &'static str) -> Result<Records, Error> {
        // The library reads both splits whichever is wanted.
        let (train, test) = (idx_shape(folder, "train")?, idx_shape(folder, "t10k")?);
        let [_, height, width] = if split == "train" { train } else { test };
        let (pixels, labels) = bytes(mnist::load_dir(folder), split).map_err(|e| unreadable(folder, e))?;
        let most = labels.iter().max().map_or(0, |&m| usize::from(m) + 1);
        let classes = (0..most).map(|n| n.to_string()).collect();
        Ok(Records { split, width, height, channels: 1, pixels, labels, classes })
    }

    /// Images, rows and columns of a pair of files that fit each other.
    fn idx_shape(folder: &Path, prefix: &str) -> Result<[usize; 3], Error> {
        let images = folder.join(format!("{prefix}-images-idx3-ubyte"));
        let labels = folder.join(format!("{prefix}-labels-idx1-ubyte"));
        let shape = idx_header(&images, 2051)?;
        let [count] = idx_header(&labels, 2049)?;
        match count == shape[0] {
            true => Ok(shape),
            false => {
                let reason = format!("has {count} labels for the {} images of {}", shape[0], images.display());
                Err(Error::layout(&labels, reason))
            }
        }
    }

    /// The sizes in the header of an IDX file, if the file is as long as they say.
    fn idx_header<const N: usize>(path: &Path, magic: u32) -> Result<[usize; N], Error> {
        is_there(path, "; an IDX data set has four files, for training and (t10k) for testing")?;
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
        let mut header = Vec::new();
        file.take(4 + 4 * N as u64).read_to_end(&mut header).map_err(|e| Error::io(path, e))?;
        let mut words = header.chunks_exact(4).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]));
        if words.next() != Some(magic) {
            return Err(Error::layout(
                path,
                format!("is no IDX file of its name: it does not begin with the number {magic}"),
            ));
        }
        let words: Vec<u32> = words.collect();
        let sizes = <[u32; N]>::try_from(words).map_err(|_| Error::layout(path, "ends in its header"))?;
        let content = sizes.iter().try_fold(1u64, |n, &size| n.checked_mul(size.into()));
        if content.and_then(|n| n.checked_add(header.len() as u64)) != Some(size) {
            let sizes = sizes.map(|n| n.to_string()).join(" x ");
            return Err(Error::layout(
                path,
                format!("has {size} bytes, which are not the {sizes} values of its header"),
            ));
        }
        match content {
            Some(0) => Err(Error::layout(path, "is empty: its header tells of no values")),
            _ => Ok(sizes.map(|n| n as usize)), // no more than the file's size
        }
    }

    pub fn cifar(folder: &Path, split: &'static str) -> Result<Records, Error> {
        let files = FILES.iter().filter(|(_, layout, _)| *layout == Layout::Cifar);
        let length = |name: &str| fs::metadata(folder.join(name)).map_or(0, |about| about.len());
        // The library reads complete sets alone, and of longer files the beginning.
        let complete = files.clone().all(|(name, ..)| length(name) == COMPLETE * RECORD as u64);
        let (planes, labels) = if complete {
            bytes(cifar::load_dir(folder), split).map_err(|e| unreadable(folder, e))?
        } else {
            subset(folder, files.filter(|(.., s)| *s == split).map(|(name, ..)| *name).collect())?
        };
        if let Some((i, label)) = labels.iter().enumerate().find(|(_, label)| usize::from(**label) >= 10) {
            let reason = format!("{split} image {i} is of class {label}; CIFAR-10 has the classes 0 to 9");
            return Err(Error::layout(folder, reason));
        }
        let interleaved = |image: &[u8]| {
            let (r, gb) = image.split_at(SIDE * SIDE);
            let (g, b) = gb.split_at(SIDE * SIDE);
            r.iter().zip(g).zip(b).flat_map(|((&r, &g), &b)| [r, g, b]).collect::<Vec<u8>>()
        };
        let pixels = planes.chunks_exact(RECORD - 1).flat_map(interleaved).collect();
        let classes = CIFAR_CLASSES.map(String::from).to_vec();
        Ok(Records { split, width: SIDE, height: SIDE, channels: 3, pixels, labels, classes })
    }

    /// The planes and labels of whichever of the files are there.
    fn subset(folder: &Path, names: Vec<&str>) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let mut paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
        if paths.iter().any(|path| path.is_file() || packed(path).is_file()) {
            paths.retain(|path| path.is_file() || packed(path).is_file());
        }
        let (mut planes, mut labels) = (Vec::new(), Vec::new());
        for path in paths {
            is_there(&path, "")?;
            let file = fs::read(&path).map_err(|e| Error::io(&path, e))?;
            if file.is_empty() || file.len() % RECORD != 0 {
                let reason = format!("has {} bytes, which are not whole records of {RECORD}", file.len());
                return Err(Error::layout(&path, reason));
            }
            for record in file.chunks_exact(RECORD) {
                labels.push(record[0]);
                planes.extend(&record[1..]);
            }
        }
        Ok((planes, labels))
    }

    /// Where a compressed copy of a file would be.
    fn packed(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".gz");
        name.into()
    }

    /// Refuses a path without a file.
    fn is_there(path: &Path, role: &str) -> Result<(), Error> {
        let packed = packed(path);
        if path.is_file() {
            Ok(())
        } else if packed.is_file() {
            Err(Error::layout(path, format!("is compressed; unpack it with: gunzip {}", packed.display())))
        } else {
            Err(Error::layout(path, format!("is missing{role}")))
        }
    }

    /// The images of a split, in the order of the library's tensors, and its labels.
    fn bytes(data: candle_core::Result<Dataset>, split: &str) -> candle_core::Result<(Vec<u8>, Vec<u8>)> {
        let data = data?;
        let (images, labels): (Tensor, Tensor) = match split {
            "train" => (data.train_images, data.train_labels),
            _ => (data.test_images, data.test_labels),
        };
        // The library divides bytes by 255.
        let values = images.flatten_all()?.to_vec1::<f32>()?;
        Ok((values.into_iter().map(|v| (v * 255.).round() as u8).collect(), labels.to_vec1()?))
    }

    fn unreadable(folder: &Path, e: candle_core::Error) -> Error {
        Error::layout(folder, format!("cannot be read: {e}"))
    }
}

impl ImageSource for Records {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn name(&self, index: usize) -> String {
        format!("{}-{index:06}", self.split)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).map(|&l| l.into())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn read(&self, index: usize) -> Result<Content, Error> {
        if index >= self.len() {
            return Err(no_image(index, self.len()));
        }
        let (width, height, channels) = (self.width, self.height, self.channels);
        let size = width * height * channels;
        let samples = Samples::Bytes(self.pixels[index * size..][..size].to_vec());
        Ok(Content::Image(Image { width, height, channels, samples }))
    }
}
