//! Where the images come from and how they are read.

use crate::pixels::{MEAN, STD};
use selfpatch_datasets::{Decoding, Pillow, Range};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where the images come from and how they are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// `procedural` for the synthetic world; a folder of images at any depth; a list of them (txt, csv,
    /// tsv); tar or parquet files, several by braces and wildcards; IDX or CIFAR files; videos; or
    /// `hf://owner/name[@revision][#split]` (`--data`).
    pub path: String,
    /// Number of procedural images; unused for other data.
    pub procedural_images: usize,
    /// Side of a procedural image in pixels; unused for other data.
    pub procedural_size: usize,
    /// Threads that load and augment; 0 for one per core. They do not change the result.
    pub workers: usize,
    /// Batches prepared ahead.
    #[serde(default = "two")]
    pub prefetch: usize,
    /// Greatest part of the images that may be broken before the run stops (`--max-bad`).
    #[serde(default = "one_percent")]
    pub max_bad: f64,
    /// Leave out the images that do not fill a last batch; otherwise that batch is smaller.
    #[serde(default = "yes")]
    pub drop_last: bool,
    /// Values per pixel. 3 without a `range`: whatever an image holds becomes RGB.
    #[serde(default = "three")]
    pub channels: usize,
    /// The values that become 0 and 1, for images of more than 8 bits: `[low, high]`, or a list of such pairs, one
    /// per channel; absent: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// Mean of each channel, where pixels have values from 0 to 1.
    #[serde(default = "imagenet_mean")]
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, where pixels have values from 0 to 1.
    #[serde(default = "imagenet_std")]
    pub std: Vec<f32>,
    /// Turn images as their EXIF orientation says. The published program does not, but for TIFF files that it reads
    /// as RGB.
    #[serde(default)]
    pub exif: bool,
    /// Whose order of passes resizing follows: 12 for Pillow up to 12.3, 13 for Pillow from 13.0 on.
    #[serde(default = "twelve")]
    pub pillow: u32,
    /// Decode JPEG files to the very bytes of Pillow and OpenCV (libjpeg), which takes about twice as long;
    /// otherwise they differ by a few levels.
    #[serde(default)]
    pub exact_jpeg: bool,
    /// Most pixels of an image; larger claims are taken for broken or hostile headers.
    #[serde(default = "max_pixels")]
    pub max_pixels: u64,
    /// Most bytes of an image file.
    #[serde(default = "max_bytes")]
    pub max_bytes: u64,
    /// Frames of a video per second of it; 0 for all; `"auto"` for every frame of a video of up to a minute, and 2 per
    /// second of a longer one.
    #[serde(default)]
    pub video_fps: VideoRate,
    /// Frames of a video are left out in which no part differs by as many levels of 255 from the last one before them
    /// that is used; 0 for none.
    #[serde(default)]
    pub video_dedup: f32,
}

/// How many frames of a video are used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum VideoRate {
    /// As many frames as suit the length of the video: `"auto"`.
    #[default]
    Auto,
    /// So many frames per second of the video; 0 for all.
    PerSecond(f32),
}

impl VideoRate {
    /// The word for [`VideoRate::Auto`] in files and flags.
    pub const AUTO: &str = "auto";

    /// Frames per second; `None` for `"auto"`.
    pub fn per_second(self) -> Option<f32> {
        match self {
            Self::Auto => None,
            Self::PerSecond(fps) => Some(fps),
        }
    }
}

impl Serialize for VideoRate {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => to.serialize_str(Self::AUTO),
            Self::PerSecond(fps) => to.serialize_f32(*fps),
        }
    }
}

impl<'de> Deserialize<'de> for VideoRate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Number(f32),
            Text(String),
        }
        match Value::deserialize(from) {
            Ok(Value::Number(fps)) => Ok(Self::PerSecond(fps)),
            Ok(Value::Text(text)) if text == Self::AUTO => Ok(Self::Auto),
            _ => Err(D::Error::custom("data.video_fps must be a number or \"auto\"")),
        }
    }
}

fn two() -> usize {
    2
}

fn twelve() -> u32 {
    12
}

fn three() -> usize {
    3
}

fn one_percent() -> f64 {
    0.01
}

fn yes() -> bool {
    true
}

fn imagenet_mean() -> Vec<f32> {
    MEAN.to_vec()
}

fn imagenet_std() -> Vec<f32> {
    STD.to_vec()
}

fn max_pixels() -> u64 {
    Decoding::default().max_pixels
}

fn max_bytes() -> u64 {
    Decoding::default().max_bytes
}

impl Data {
    /// Settings for RGB images from `path`, everything else as usual.
    pub(super) fn of(path: &str) -> Self {
        Self {
            path: path.into(),
            procedural_images: 0,
            procedural_size: 0,
            workers: 0,
            prefetch: two(),
            max_bad: one_percent(),
            drop_last: yes(),
            channels: three(),
            range: None,
            mean: imagenet_mean(),
            std: imagenet_std(),
            exif: false,
            pillow: twelve(),
            exact_jpeg: false,
            max_pixels: max_pixels(),
            max_bytes: max_bytes(),
            video_fps: VideoRate::Auto,
            video_dedup: 0.,
        }
    }

    /// How files become pixels.
    pub fn decoding(&self) -> Decoding {
        Decoding {
            channels: self.channels,
            range: self.range.clone(),
            exif: self.exif,
            exact_jpeg: self.exact_jpeg,
            max_pixels: self.max_pixels,
            max_bytes: self.max_bytes,
        }
    }

    /// The order of passes that `pillow` names.
    pub fn resizing(&self) -> Pillow {
        if self.pillow >= 13 { Pillow::V13 } else { Pillow::V12 }
    }
}
