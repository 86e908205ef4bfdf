//! Small images in IDX files (MNIST and its relatives) and in CIFAR's binary files, held in memory.

use super::{Content, ImageSource, no_image};
use crate::{Error, Image, Samples};
use std::path::Path;

/// Names of a class that records carry.
const CIFAR_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

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

impl Layout {
    /// The layout of `folder`, if its files have the names of one.
    pub fn of(folder: &Path) -> Option<Self> {
        if folder.join("train-images-idx3-ubyte").is_file() {
            Some(Self::Idx)
        } else if folder.join("data_batch_1.bin").is_file() {
            Some(Self::Cifar)
        } else {
            None
        }
    }
}

#[cfg(feature = "candle-datasets")]
impl Records {
    /// Reads the split `train` or `test` of a folder through candle-datasets.
    pub(super) fn open(folder: &Path, layout: Layout, split: &str) -> Result<Self, Error> {
        use candle_datasets::vision::{cifar, mnist};
        let fail = |e: candle_core::Error| Error::layout(folder, format!("cannot be read: {e}"));
        let (data, shape) = match layout {
            Layout::Idx => (mnist::load_dir(folder).map_err(fail)?, idx_shape(folder)?),
            Layout::Cifar => (cifar::load_dir(folder).map_err(fail)?, (32, 32, 3)),
        };
        let (split, images, labels) = match split {
            "train" => ("train", data.train_images, data.train_labels),
            "test" => ("test", data.test_images, data.test_labels),
            other => {
                return Err(Error::Missing {
                    what: format!("split {other:?}"),
                    valid: "there are train and test".into(),
                });
            }
        };
        // The library divides bytes by 255; `[N, C, H, W]` or, for one channel, `[N, H * W]`.
        let bytes = |t: &candle_core::Tensor| -> candle_core::Result<Vec<u8>> {
            let values = t.flatten_all()?.to_vec1::<f32>()?;
            Ok(values.into_iter().map(|v| (v * 255.).round() as u8).collect())
        };
        let planes = bytes(&images).map_err(fail)?;
        let (width, height, channels) = shape;
        let area = width * height;
        let pixels = match channels {
            1 => planes,
            _ => planes
                .chunks_exact(channels * area)
                .flat_map(|image| (0..area).flat_map(move |i| (0..channels).map(move |c| image[c * area + i])))
                .collect(),
        };
        let labels = labels.to_vec1::<u8>().map_err(fail)?;
        if pixels.len() != labels.len() * area * channels {
            return Err(Error::layout(folder, format!("{} labels do not fit the images", labels.len())));
        }
        let most = labels.iter().max().map_or(0, |&m| usize::from(m) + 1);
        let classes = match layout {
            Layout::Cifar if most <= 10 => CIFAR_CLASSES.map(String::from).to_vec(),
            _ => (0..most).map(|n| n.to_string()).collect(),
        };
        Ok(Self { split, width, height, channels, pixels, labels, classes })
    }
}

/// Columns and rows, which candle-datasets does not tell, from the header of the images.
#[cfg(feature = "candle-datasets")]
fn idx_shape(folder: &Path) -> Result<(usize, usize, usize), Error> {
    use std::io::Read;
    let path = folder.join("train-images-idx3-ubyte");
    let mut header = [0u8; 16];
    std::fs::File::open(&path).and_then(|mut f| f.read_exact(&mut header)).map_err(|e| Error::io(&path, e))?;
    let word = |i: usize| u32::from_be_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]) as usize;
    Ok((word(12), word(8), 1))
}

#[cfg(not(feature = "candle-datasets"))]
impl Records {
    /// Says how to get a program that reads these files.
    pub(super) fn open(folder: &Path, _: Layout, _: &str) -> Result<Self, Error> {
        let _ = CIFAR_CLASSES;
        let reason = "IDX and CIFAR files need a build with --features hub (cargo xtask adds it by itself)";
        Err(Error::layout(folder, reason))
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
