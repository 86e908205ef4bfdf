//! The pixel containers everything else speaks: images to train on, frames and masks of videos.

/// The values of an image or of views.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// 8 bits per value.
    Bytes(Vec<u8>),
    /// Any other depth, scaled so that the wanted range of values becomes 0 to 1.
    Floats(Vec<f32>),
}

impl Default for Samples {
    /// None, as bytes.
    fn default() -> Self {
        Self::Bytes(Vec::new())
    }
}

impl Samples {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(v) => v.len(),
            Self::Floats(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An image to train on: rows top to bottom, channels interleaved.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Values per pixel.
    pub channels: usize,
    /// `[H, W, C]` row-major.
    pub samples: Samples,
}

impl Image {
    /// Whether there is at least one value and there are as many as the sides promise.
    pub(crate) fn is_whole(&self) -> bool {
        let count = self.width.checked_mul(self.height).and_then(|n| n.checked_mul(self.channels));
        count.is_some_and(|n| n > 0 && n == self.samples.len())
    }
}

impl From<Rgb> for Image {
    fn from(rgb: Rgb) -> Self {
        Self { width: rgb.width, height: rgb.height, channels: 3, samples: Samples::Bytes(rgb.pixels) }
    }
}

/// An 8-bit RGB image, rows top to bottom, channels interleaved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` bytes, `[H, W, 3]` row-major.
    pub pixels: Vec<u8>,
}

/// Object ids of one frame: 0 is background, 1.. are objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width` ids, `[H, W]` row-major.
    pub ids: Vec<u8>,
}
