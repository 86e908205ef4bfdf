//! Resizing of a window of an image, bicubic or bilinear, antialiased, with the arithmetic of Pillow: horizontally
//! first, rounded to bytes, then vertically; from Pillow 13.0 on in the other order where that is shorter
//! ([`Pillow`]). For bytes the result equals Pillow's bit for bit; other values are resized by the same
//! weights without rounding.

use super::crop::Window;
use super::planes::{Columns, Planes, Turn, transpose};
use selfpatch_simd::wide;
use std::ops::Range;

/// Whose order of passes resizing follows; bytes are rounded between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pillow {
    /// Up to 12.3: always columns first.
    #[default]
    V12,
    /// From 13.0 on: rows first where that makes more of them fewer, more than twice as many as columns.
    V13,
}

impl Pillow {
    /// Whether rows are combined first, from and to (columns, rows).
    fn rows_first(self, (width, height): (usize, usize), (to_width, to_height): (usize, usize)) -> bool {
        // Found with Pillow 13.0.0 on 8,287 sizes at which the orders differ.
        self == Self::V13 && height > to_height && (height - to_height) as i64 > 2 * (width as i64 - to_width as i64)
    }
}

/// How values between pixels are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Keys' cubic with a = -0.5: the views of DINO, and torchvision's `BICUBIC`.
    #[default]
    Bicubic,
    /// Linear: what torchvision's `RandomResizedCrop` does unless it is told otherwise.
    Bilinear,
}

impl Filter {
    /// Pixels to each side that have a weight, where the image is not shrunk.
    fn reach(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Bilinear => 1.0,
        }
    }

    /// Weight of a pixel at a distance of `x`, in Pillow's order of operations.
    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Bicubic => cubic(x),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
        }
    }
}

/// A value that can be resized.
pub(super) trait Sample: Turn {
    /// Weights and sums.
    type Sum: Copy;
    /// Where a sum begins.
    const ZERO: Self::Sum;
    /// A weight as it is used.
    fn weight(weight: f64) -> Self::Sum;
    /// `sum + weight * value`.
    fn add(sum: Self::Sum, weight: Self::Sum, value: Self) -> Self::Sum;
    /// The value of a whole sum.
    fn finish(sum: Self::Sum) -> Self;
}

/// Bits behind the point of a weight for bytes.
const BITS: u32 = 22;

impl Sample for u8 {
    type Sum = i32;
    const ZERO: i32 = 1 << (BITS - 1); // rounds

    fn weight(weight: f64) -> i32 {
        // Pillow rounds by adding half and truncating.
        (weight * f64::from(1 << BITS) + 0.5f64.copysign(weight)) as i32
    }

    #[inline(always)]
    fn add(sum: i32, weight: i32, value: u8) -> i32 {
        // Below 2^31: the absolute weights of the cubic add up to less than 1.5.
        sum.wrapping_add(weight.wrapping_mul(i32::from(value)))
    }

    #[inline(always)]
    fn finish(sum: i32) -> u8 {
        (sum >> BITS).clamp(0, 255) as u8
    }
}

impl Sample for f32 {
    type Sum = f32;
    const ZERO: f32 = 0.;

    fn weight(weight: f64) -> f32 {
        weight as f32
    }

    #[inline(always)]
    fn add(sum: f32, weight: f32, value: f32) -> f32 {
        sum + weight * value
    }

    #[inline(always)]
    fn finish(sum: f32) -> f32 {
        sum
    }
}

/// How a square is made of a window.
#[derive(Clone, Copy, Default)]
pub(super) struct Manner {
    pub filter: Filter,
    /// Mirrored left and right.
    pub flip: bool,
    pub pillow: Pillow,
}

/// The window of `image` as a square of `size`. Pixels outside of the window have no influence.
pub(super) fn resized<T: Sample>(image: &Columns<T>, window: Window, size: usize, manner: Manner) -> Planes<T> {
    let Manner { filter, flip, pillow } = manner;
    let across = LineWeights::new::<T>(filter, window.width, size, 0..size);
    let down = LineWeights::new::<T>(filter, window.height, size, 0..size);
    let resampling = Resampling { image, window, across, down, flip };
    match pillow.rows_first((window.width, window.height), (size, size)) {
        true => resampling.rows_first(),
        false => resampling.columns_first(),
    }
}

/// The square of `size` in the middle of what `image` becomes when its shorter side becomes `short`, as
/// torchvision's `Resize(short)` and `CenterCrop(size)`; `size` is at most `short`.
pub(super) fn centre<T: Sample>(image: &Columns<T>, short: usize, size: usize) -> Planes<T> {
    let (width, height) = (image.width, image.height);
    let weights = |side: usize| {
        let to = short * side / width.min(height);
        let first = ((to - size) as f64 / 2.0).round_ties_even() as usize; // Python's round
        LineWeights::new::<T>(Filter::Bicubic, side, to, first..first + size)
    };
    let window = Window { left: 0, top: 0, width, height };
    Resampling { image, window, across: weights(width), down: weights(height), flip: false }.columns_first()
}

/// How a square of a window's pixels is made.
struct Resampling<'a, T: Sample> {
    image: &'a Columns<T>,
    window: Window,
    /// What each column of the square is made of.
    across: LineWeights<T::Sum>,
    /// What each row is made of.
    down: LineWeights<T::Sum>,
    flip: bool,
}

impl<T: Sample> Resampling<'_, T> {
    /// The square: first the columns are combined, then the rows.
    fn columns_first(&self) -> Planes<T> {
        let Self { image, window, across, down, flip } = self;
        let size = across.first.len();
        let mut narrow = vec![T::default(); size * window.height]; // columns
        let mut rows = narrow.clone();
        let mut out = vec![T::default(); image.channels * size * size];
        for (channel, out) in out.chunks_exact_mut(size * size).enumerate() {
            let from = &image.plane(channel)[window.left * image.height..];
            wide!(combine(from, image.height, window.top, across, *flip, &mut narrow));
            transpose(&narrow, window.height, &mut rows);
            wide!(combine(&rows, size, 0, down, false, out));
        }
        Planes::new(size, out)
    }

    /// Resizes in the other order: first the rows, then the columns.
    fn rows_first(&self) -> Planes<T> {
        let Self { image, window: Window { left, top, width, height }, across, down, flip } = self;
        let size = across.first.len();
        let mut rows = vec![T::default(); width * height];
        let mut low = vec![T::default(); size * width]; // rows
        let mut columns = low.clone();
        let mut turned = vec![T::default(); size * size];
        let mut out = vec![T::default(); image.channels * size * size];
        for (channel, out) in out.chunks_exact_mut(size * size).enumerate() {
            let plane = &image.plane(channel)[left * image.height..];
            let window: Vec<T> =
                plane.chunks(image.height).take(*width).flat_map(|c| &c[*top..top + height]).copied().collect();
            transpose(&window, *height, &mut rows);
            wide!(combine(&rows, *width, 0, down, false, &mut low));
            transpose(&low, *width, &mut columns);
            wide!(combine(&columns, size, 0, across, *flip, &mut turned));
            transpose(&turned, size, out);
        }
        Planes::new(size, out)
    }
}

/// Elements that are summed up in registers at a time.
const LANES: usize = 64;

/// Weighted sums of lines: line `i` of `out` is made of the lines of `from` that `weights` names, each
/// `stride` long, from element `skip` on. `reverse` counts the lines of `out` from the last.
#[inline(always)]
fn combine<T: Sample>(
    from: &[T],
    stride: usize,
    skip: usize,
    weights: &LineWeights<T::Sum>,
    reverse: bool,
    out: &mut [T],
) {
    let count = weights.first.len();
    let len = out.len() / count;
    for line in 0..count {
        let (first, weights) = weights.of(line);
        let target = if reverse { count - 1 - line } else { line };
        let out = &mut out[target * len..][..len];
        let from = &from[first * stride + skip..];
        let mut chunks = out.chunks_exact_mut(LANES);
        let mut at = 0;
        for out in &mut chunks {
            let mut sums = [T::ZERO; LANES];
            for (i, &weight) in weights.iter().enumerate() {
                let values = &from[i * stride + at..][..LANES];
                for lane in 0..LANES {
                    sums[lane] = T::add(sums[lane], weight, values[lane]);
                }
            }
            for lane in 0..LANES {
                out[lane] = T::finish(sums[lane]);
            }
            at += LANES;
        }
        let rest = chunks.into_remainder();
        let mut sums = [T::ZERO; LANES];
        for (i, &weight) in weights.iter().enumerate() {
            let values = &from[i * stride + at..][..rest.len()];
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum = T::add(*sum, weight, *value));
        }
        rest.iter_mut().zip(&sums).for_each(|(out, sum)| *out = T::finish(*sum));
    }
}

/// Which lines make up each line of the result, and how much of them.
struct LineWeights<S> {
    first: Vec<usize>,
    /// Where the weights of each line end.
    end: Vec<usize>,
    values: Vec<S>,
}

impl<S: Copy> LineWeights<S> {
    /// From `from` lines to `to`, of which `lines` are wanted: the weights of `filter`, stretched when there are fewer
    /// lines than before, cut off at the border and made to add up to 1.
    fn new<T: Sample<Sum = S>>(filter: Filter, from: usize, to: usize, lines: Range<usize>) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let reach = filter.reach() * stretch;
        let count = lines.len();
        let mut all = Self { first: Vec::with_capacity(count), end: Vec::with_capacity(count), values: Vec::new() };
        let mut weights = Vec::new();
        for line in lines {
            let centre = (line as f64 + 0.5) * scale;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let end = ((centre + reach + 0.5) as usize).min(from);
            weights.clear();
            weights.extend((first..end).map(|i| filter.weight((i as f64 - centre + 0.5) * (1.0 / stretch))));
            let total: f64 = weights.iter().sum();
            all.values.extend(weights.iter().map(|w| T::weight(if total == 0.0 { *w } else { w / total })));
            all.first.push(first);
            all.end.push(all.values.len());
        }
        all
    }

    /// The first line that takes part in line `line`, and the weights from it on.
    #[inline(always)]
    fn of(&self, line: usize) -> (usize, &[S]) {
        let start = if line == 0 { 0 } else { self.end[line - 1] };
        (self.first[line], &self.values[start..self.end[line]])
    }
}

/// Keys' cubic with a = -0.5, in Pillow's order of operations.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bicubic<T: Sample>(
        image: &Columns<T>,
        window: Window,
        size: usize,
        (flip, pillow): (bool, Pillow),
    ) -> Planes<T> {
        resized(image, window, size, Manner { flip, pillow, ..Manner::default() })
    }

    fn image(width: usize, height: usize, value: impl Fn(usize, usize) -> u8) -> Columns<u8> {
        let pixels: Vec<u8> = (0..width * height).flat_map(|i| [value(i % width, i / width); 3]).collect();
        Columns::of((width, height, 3), &pixels)
    }

    #[test]
    fn an_unscaled_window_is_a_copy_or_its_mirror_image() {
        let of = |x: usize, y: usize| (x * 31 + y * 7) as u8;
        let image = image(8, 6, of);
        let window = Window { left: 3, top: 1, width: 4, height: 4 };
        let at = |i: usize| (i % 4, i / 4 % 4);
        let want: Vec<u8> = (0..48).map(|i| of(3 + at(i).0, 1 + at(i).1)).collect();
        assert_eq!(bicubic(&image, window, 4, (false, Pillow::V12)).into_values(), want);
        let mirrored: Vec<u8> = (0..48).map(|i| of(6 - at(i).0, 1 + at(i).1)).collect();
        assert_eq!(bicubic(&image, window, 4, (true, Pillow::V12)).into_values(), mirrored);
    }

    #[test]
    fn pixels_outside_of_the_window_do_not_leak_in() {
        let inside = |v: usize| (5..15).contains(&v);
        let image = image(20, 20, |x, y| if inside(x) && inside(y) { 100 } else { 255 });
        let window = Window { left: 5, top: 5, width: 10, height: 10 };
        for size in [3, 7, 33, 150] {
            assert_eq!(bicubic(&image, window, size, (false, Pillow::V12)).into_values(), vec![100; size * size * 3]);
        }
    }

    #[test]
    fn doubling_an_edge_gives_the_weights_of_the_cubic() {
        // Columns 0 0 0 0 200 200 200 200 at twice the width against the plain formula.
        let image = image(8, 8, |x, _| if x < 4 { 0 } else { 200 });
        let got =
            bicubic(&image, Window { left: 0, top: 0, width: 8, height: 8 }, 16, (false, Pillow::V12)).into_values();
        for (x, &got) in got.iter().enumerate().take(12).skip(4) {
            let centre = (x as f64 + 0.5) / 2.0 - 0.5;
            let first = centre.floor() as i32 - 1;
            let value: f64 = (first..first + 4).filter(|&k| k >= 4).map(|k| 200.0 * cubic(f64::from(k) - centre)).sum();
            assert!((f64::from(got) - value.clamp(0.0, 255.0)).abs() <= 0.51, "column {x}: {got} {value}");
        }
    }

    #[test]
    fn the_centre_is_cut_from_the_whole_resized_image() {
        // 40 x 20 to 16 x 8 and a square of 8 from column 4 on: what a window resized to 16 x 16 has there, at
        // least in columns; rows do not vary.
        let picture = image(40, 20, |x, _| (x * x % 251) as u8);
        let got = centre(&picture, 8, 8).into_values();
        let wide = bicubic(&picture, Window { left: 0, top: 0, width: 40, height: 20 }, 16, (false, Pillow::V12))
            .into_values();
        for (i, &got) in got.iter().enumerate() {
            let (x, channel) = (i % 8, i / 64);
            assert_eq!(got, wide[channel * 256 + 4 + x], "value {i}");
        }
        // Half of an odd rest is rounded to an even number.
        let of = |x: usize, y: usize| (x * 9 + y * 20) as u8;
        let cut = |width: usize, height: usize, size: usize| centre(&image(width, height, of), 5, size).into_values();
        assert_eq!(cut(6, 5, 5)[..2], [of(0, 0), of(1, 0)]); // 0.5 to 0
        assert_eq!(cut(8, 5, 5)[..2], [of(2, 0), of(3, 0)]); // 1.5 to 2
    }

    #[test]
    fn rows_first_is_columns_first_of_the_image_on_its_side() {
        let of = |x: usize, y: usize| (x * x * 7 + y * y * 3 + x * y) as u8;
        let (upright, aside) = (image(30, 90, of), image(90, 30, |x, y| of(y, x)));
        let window = Window { left: 2, top: 5, width: 25, height: 80 };
        let turned = Window { left: 5, top: 2, width: 80, height: 25 };
        let new = bicubic(&upright, window, 20, (false, Pillow::V13)).into_values();
        let old = bicubic(&upright, window, 20, (false, Pillow::V12)).into_values();
        let side = bicubic(&aside, turned, 20, (false, Pillow::V12)).into_values();
        assert_ne!(new, old);
        assert!((0..1200).all(|i| new[i] == side[i / 400 * 400 + i % 20 * 20 + i / 20 % 20]));
        // Mirrored after it, and the same as before where columns come first in either.
        let mirrored = bicubic(&upright, window, 20, (true, Pillow::V13)).into_values();
        assert!((0..1200).all(|i| mirrored[i] == new[i / 20 * 20 + 19 - i % 20]));
        let [a, b] = [Pillow::V12, Pillow::V13].map(|p| bicubic(&aside, turned, 20, (false, p)).into_values());
        assert_eq!(a, b);
    }

    #[test]
    fn the_order_of_passes_is_that_of_pillow_13() {
        // Sizes from and to, and what Pillow 13.0.0 does; the last four at the edge of the rule.
        for ((width, height, to_width, to_height), rows_first) in [
            ((57, 62, 5, 5), false),
            ((82, 122, 32, 36), false),
            ((49, 192, 7, 55), true),
            ((62, 97, 63, 92), true),
            ((30, 60, 40, 70), false),
            ((40, 50, 30, 30), false),
            ((40, 51, 30, 30), true),
            ((40, 31, 40, 30), true),
            ((40, 30, 45, 30), false),
        ] {
            assert_eq!(
                Pillow::V13.rows_first((width, height), (to_width, to_height)),
                rows_first,
                "{width} x {height}"
            );
            assert!(!Pillow::V12.rows_first((width, height), (to_width, to_height)));
        }
    }

    #[test]
    fn floats_follow_the_bytes() {
        let of = |x: usize, y: usize| (40 + x + y) as u8; // no clipping between the passes
        let bytes = image(90, 70, of);
        let values: Vec<f32> = (0..90 * 70).flat_map(|i| [f32::from(of(i % 90, i / 90)); 3]).collect();
        let floats = Columns::of((90, 70, 3), &values);
        let window = Window { left: 4, top: 9, width: 80, height: 50 };
        let bytes = bicubic(&bytes, window, 64, (true, Pillow::V12)).into_values();
        let floats = bicubic(&floats, window, 64, (true, Pillow::V12)).into_values();
        // Two roundings to bytes of half a level, the first spread by weights of at most 1.5 in all.
        assert!(bytes.iter().zip(&floats).all(|(b, f)| (f32::from(*b) - f.clamp(0., 255.)).abs() < 1.3));
    }
}
