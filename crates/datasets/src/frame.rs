//! The two pixel containers everything else speaks: an RGB image and a mask of object ids.

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

impl Rgb {
    /// Whether there is at least one pixel and `pixels` has the length its sides promise.
    pub(crate) fn is_whole(&self) -> bool {
        let bytes = self.width.checked_mul(self.height).and_then(|n| n.checked_mul(3));
        bytes.is_some_and(|n| n > 0 && n == self.pixels.len())
    }
}
