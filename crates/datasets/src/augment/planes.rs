//! A square picture as three planes of bytes, the form that colour operations work on.

/// `[3, size, size]` bytes.
pub(super) struct Planes {
    size: usize,
    bytes: Vec<u8>,
}

impl Planes {
    /// Separates the channels of `[size, size, 3]` pixels, mirrored if `flip`.
    pub fn split(pixels: &[u8], size: usize, flip: bool) -> Self {
        let area = size * size;
        let mut bytes = vec![0; 3 * area];
        let (red, rest) = bytes.split_at_mut(area);
        let (green, blue) = rest.split_at_mut(area);
        let targets = red.iter_mut().zip(green).zip(blue);
        for (((r, g), b), pixel) in targets.zip(pixels.chunks_exact(3)) {
            (*r, *g, *b) = (pixel[0], pixel[1], pixel[2]);
        }
        if flip {
            bytes.chunks_exact_mut(size.max(1)).for_each(<[u8]>::reverse);
        }
        Self { size, bytes }
    }

    /// Rows and columns.
    pub fn size(&self) -> usize {
        self.size
    }

    /// All values, plane after plane.
    pub fn values(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The red, green and blue plane.
    pub fn channels(&mut self) -> [&mut [u8]; 3] {
        let (red, rest) = self.bytes.split_at_mut(self.size * self.size);
        let (green, blue) = rest.split_at_mut(self.size * self.size);
        [red, green, blue]
    }

    /// `[3, size, size]`.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
