//! Pictures as planes, the form that augmentation works on.

/// A square picture, `[C, size, size]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planes<T> {
    size: usize,
    values: Vec<T>,
}

impl<T> Planes<T> {
    /// `values` are `[C, size, size]`.
    pub fn new(size: usize, values: Vec<T>) -> Self {
        Self { size, values }
    }

    /// Rows and columns.
    pub fn size(&self) -> usize {
        self.size
    }

    /// All values, plane after plane.
    pub fn values(&mut self) -> &mut [T] {
        &mut self.values
    }

    /// The planes, one by one.
    pub fn channels(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.values.chunks_exact_mut((self.size * self.size).max(1))
    }

    /// The first three planes; the others are out of reach.
    ///
    /// # Panics
    /// If there are fewer, which settings are checked against.
    pub fn rgb(&mut self) -> [&mut [T]; 3] {
        let area = self.size * self.size;
        let (red, rest) = self.values.split_at_mut(area);
        let (green, rest) = rest.split_at_mut(area);
        [red, green, &mut rest[..area]]
    }

    /// `[C, size, size]`.
    pub fn into_values(self) -> Vec<T> {
        self.values
    }
}

/// An image turned on its side: planes of columns, `[C, W, H]`. A horizontal pass then adds whole
/// columns, element by element, as a vertical pass does with rows.
pub(super) struct Columns<T> {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    values: Vec<T>,
}

impl<T: Copy + Default> Columns<T> {
    /// Turns an image of interleaved pixels, `[H, W, C]`.
    pub fn of((width, height, channels): (usize, usize, usize), pixels: &[T]) -> Self {
        let mut values = vec![T::default(); pixels.len()];
        match channels {
            3 => turn((width, height, 3), pixels, &mut values),
            _ => turn((width, height, channels), pixels, &mut values),
        }
        Self { width, height, channels, values }
    }

    /// `[W, H]` of one channel.
    pub fn plane(&self, channel: usize) -> &[T] {
        let area = self.width * self.height;
        &self.values[channel * area..][..area]
    }
}

/// Side of the blocks that are turned at a time: 16 rows and 16 columns stay in the L1 cache.
const BLOCK: usize = 16;

/// `[H, W, C]` to `[C, W, H]`.
#[inline(always)]
fn turn<T: Copy>((width, height, channels): (usize, usize, usize), from: &[T], to: &mut [T]) {
    let area = width * height;
    for top in (0..height).step_by(BLOCK) {
        let bottom = (top + BLOCK).min(height);
        for left in (0..width).step_by(BLOCK) {
            for x in left..(left + BLOCK).min(width) {
                for channel in 0..channels {
                    let column = &mut to[channel * area + x * height..][top..bottom];
                    let pixels = from[(top * width + x) * channels + channel..].iter().step_by(width * channels);
                    column.iter_mut().zip(pixels).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}

/// `[rows, cols]` to `[cols, rows]`.
pub(super) fn transpose<T: Copy + Default>(from: &[T], cols: usize, to: &mut [T]) {
    let rows = from.len() / cols.max(1);
    for top in (0..rows).step_by(BLOCK) {
        for left in (0..cols).step_by(BLOCK) {
            if top + BLOCK <= rows && left + BLOCK <= cols {
                let mut block = [[T::default(); BLOCK]; BLOCK];
                for (i, row) in block.iter_mut().enumerate() {
                    row.copy_from_slice(&from[(top + i) * cols + left..][..BLOCK]);
                }
                for i in 0..BLOCK {
                    let out = &mut to[(left + i) * rows + top..][..BLOCK];
                    out.iter_mut().zip(&block).for_each(|(out, row)| *out = row[i]);
                }
            } else {
                for x in left..(left + BLOCK).min(cols) {
                    for y in top..(top + BLOCK).min(rows) {
                        to[x * rows + y] = from[y * cols + x];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_hold_every_pixel() {
        for (width, height, channels) in [(1, 1, 3), (17, 33, 3), (40, 16, 1), (5, 18, 7)] {
            let pixels: Vec<u32> = (0..width * height * channels).map(|i| i as u32).collect();
            let columns = Columns::of((width, height, channels), &pixels);
            for c in 0..channels {
                for x in 0..width {
                    for y in 0..height {
                        assert_eq!(columns.plane(c)[x * height + y], pixels[(y * width + x) * channels + c]);
                    }
                }
            }
        }
    }

    #[test]
    fn transposing_twice_is_nothing() {
        for (rows, cols) in [(1, 5), (16, 16), (33, 50), (48, 32)] {
            let from: Vec<u8> = (0..rows * cols).map(|i| (i * 7) as u8).collect();
            let (mut once, mut twice) = (vec![0; from.len()], vec![0; from.len()]);
            transpose(&from, cols, &mut once);
            assert!((0..rows).all(|y| (0..cols).all(|x| once[x * rows + y] == from[y * cols + x])));
            transpose(&once, rows, &mut twice);
            assert_eq!(twice, from);
        }
    }
}
