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

impl<T: Turn> Columns<T> {
    /// Turns an image of interleaved pixels, `[H, W, C]`.
    pub fn of((width, height, channels): (usize, usize, usize), pixels: &[T]) -> Self {
        let mut values = vec![T::default(); pixels.len()];
        let of = |channels: usize| move |i: usize| (i % channels * width + i / channels) * height;
        match channels {
            3 => turn(pixels, width * 3, of(3), &mut values),
            _ => turn(pixels, width * channels, of(channels), &mut values),
        }
        Self { width, height, channels, values }
    }

    /// `[W, H]` of one channel.
    pub fn plane(&self, channel: usize) -> &[T] {
        let area = self.width * self.height;
        &self.values[channel * area..][..area]
    }
}

/// Side of the blocks that are turned at a time.
const BLOCK: usize = 16;

/// A value of which blocks can be turned.
pub(super) trait Turn: Copy + Default {
    /// Rows become columns.
    #[inline(always)]
    fn turned(rows: [[Self; BLOCK]; BLOCK]) -> [[Self; BLOCK]; BLOCK] {
        std::array::from_fn(|i| std::array::from_fn(|k| rows[k][i]))
    }
}

impl Turn for f32 {}

impl Turn for u8 {
    /// By mixing each row with the one half a block below, four times over.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn turned(rows: [[u8; BLOCK]; BLOCK]) -> [[u8; BLOCK]; BLOCK] {
        use std::arch::x86_64::{__m128i, _mm_unpackhi_epi8, _mm_unpacklo_epi8};
        // SAFETY: arrays of the same number of bytes, all of which are values of either type.
        let mut rows: [__m128i; BLOCK] = unsafe { std::mem::transmute(rows) };
        for _ in 0..BLOCK.ilog2() {
            let mut mixed = rows;
            for i in 0..BLOCK / 2 {
                let (upper, lower) = (rows[i], rows[i + BLOCK / 2]);
                // SAFETY: every x86-64 CPU has SSE2.
                (mixed[2 * i], mixed[2 * i + 1]) =
                    unsafe { (_mm_unpacklo_epi8(upper, lower), _mm_unpackhi_epi8(upper, lower)) };
            }
            rows = mixed;
        }
        // SAFETY: as above.
        unsafe { std::mem::transmute(rows) }
    }
}

/// `[rows, cols]` to `[cols, rows]`.
pub(super) fn transpose<T: Turn>(from: &[T], cols: usize, to: &mut [T]) {
    let rows = from.len() / cols.max(1);
    turn(from, cols, |i| i * rows, to);
}

/// Turns `[rows, cols]`; column `i` goes to where `place` says.
#[inline(always)]
fn turn<T: Turn>(from: &[T], cols: usize, place: impl Fn(usize) -> usize, to: &mut [T]) {
    let rows = from.len() / cols.max(1);
    for left in (0..cols).step_by(BLOCK) {
        for top in (0..rows).step_by(BLOCK) {
            if top + BLOCK <= rows && left + BLOCK <= cols {
                let mut block = [[T::default(); BLOCK]; BLOCK];
                for (i, row) in block.iter_mut().enumerate() {
                    row.copy_from_slice(&from[(top + i) * cols + left..][..BLOCK]);
                }
                for (i, column) in T::turned(block).iter().enumerate() {
                    to[place(left + i) + top..][..BLOCK].copy_from_slice(column);
                }
            } else {
                for x in left..(left + BLOCK).min(cols) {
                    for y in top..(top + BLOCK).min(rows) {
                        to[place(x) + y] = from[y * cols + x];
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
            let pixels: Vec<f32> = (0..width * height * channels).map(|i| i as f32).collect();
            let bytes: Vec<u8> = pixels.iter().map(|v| (v % 251.) as u8).collect();
            let columns_of_bytes = Columns::of((width, height, channels), &bytes);
            let columns = Columns::of((width, height, channels), &pixels);
            for c in 0..channels {
                for x in 0..width {
                    for y in 0..height {
                        let (to, from) = (x * height + y, (y * width + x) * channels + c);
                        assert_eq!(columns.plane(c)[to], pixels[from]);
                        assert_eq!(columns_of_bytes.plane(c)[to], bytes[from]);
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
