//! Gaussian blur approximated by three box blurs along each axis, as in Pillow.

use super::planes::{Planes, Turn, transpose};
use selfpatch_simd::wide;

/// Box blurs per axis.
const PASSES: usize = 3;

/// A value that can be blurred.
pub(super) trait Blur: Turn {
    /// Weights and sums.
    type Sum: Copy;
    /// The weights of the box's inner and outer pixels for a sum of 1.
    fn weights(filter: &BoxFilter) -> (Self::Sum, Self::Sum);
    /// `inner` times the sum of `values` and `outer` times that of `ends`.
    fn mix(weights: (Self::Sum, Self::Sum), values: Self::Sum, ends: (Self, Self)) -> Self;
    /// A sum of nothing.
    const ZERO: Self::Sum;
    /// `sum + value`.
    fn add(sum: Self::Sum, value: Self) -> Self::Sum;
}

impl Blur for u8 {
    type Sum = u32;
    const ZERO: u32 = 0;

    fn weights(filter: &BoxFilter) -> (u32, u32) {
        // 24-bit fixed point, rounded as in Pillow.
        let inner = ((1u32 << 24) as f32 / (filter.radius() * 2.0 + 1.0)) as u32;
        (inner, (1u32 << 24).saturating_sub((2 * filter.whole as u32 + 1) * inner) / 2)
    }

    #[inline(always)]
    fn mix((inner, outer): (u32, u32), values: u32, ends: (u8, u8)) -> u8 {
        // At most 255 * 2^24 + 2^23 in all, as the weights add up to no more than 2^24.
        let ends = u32::from(ends.0) + u32::from(ends.1);
        (inner.wrapping_mul(values).wrapping_add(outer.wrapping_mul(ends)).wrapping_add(1 << 23) >> 24) as u8
    }

    #[inline(always)]
    fn add(sum: u32, value: u8) -> u32 {
        sum.wrapping_add(u32::from(value))
    }
}

impl Blur for f32 {
    type Sum = f32;
    const ZERO: f32 = 0.;

    fn weights(filter: &BoxFilter) -> (f32, f32) {
        let inner = 1.0 / (filter.radius() * 2.0 + 1.0);
        (inner, inner * filter.part)
    }

    #[inline(always)]
    fn mix((inner, outer): (f32, f32), values: f32, ends: (f32, f32)) -> f32 {
        inner * values + outer * (ends.0 + ends.1)
    }

    #[inline(always)]
    fn add(sum: f32, value: f32) -> f32 {
        sum + value
    }
}

/// Blurs with a standard deviation of `radius` pixels; pixels beyond the border repeat it.
pub(super) fn gaussian<T: Blur>(planes: &mut Planes<T>, radius: f32) {
    if radius <= 0.0 || planes.size() == 0 {
        return;
    }
    let size = planes.size();
    let filter = BoxFilter::with_variance(radius);
    let (mut a, mut b) = (vec![T::default(); size * size], vec![T::default(); size * size]);
    for plane in planes.channels() {
        transpose(plane, size, &mut a);
        wide!({
            filter.down(&a, size, &mut b);
            filter.down(&b, size, &mut a);
            filter.down(&a, size, &mut b);
        });
        transpose(&b, size, plane);
        wide!({
            filter.down(plane, size, &mut a);
            filter.down(&a, size, &mut b);
            filter.down(&b, size, plane);
        });
    }
}

/// A box of `2 * whole + 1` whole pixels with `part` of a pixel on each side.
pub(super) struct BoxFilter {
    whole: usize,
    part: f32,
}

/// Pixels of a row that are summed up in registers at a time.
const LANES: usize = 32;

impl BoxFilter {
    /// The box that after all passes has the variance of a Gaussian of this standard deviation.
    fn with_variance(deviation: f32) -> Self {
        let variance = deviation * deviation / PASSES as f32;
        // Pillow computes the root and the floor in double precision, the rest in single.
        let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
        let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
        let part = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance)
            / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)));
        // The sum, and the part taken from it again: in single precision they differ.
        let radius = whole + part;
        Self { whole: radius as usize, part: radius - (radius as usize) as f32 }
    }

    /// Half the length of the box without the middle pixel.
    fn radius(&self) -> f32 {
        self.whole as f32 + self.part
    }

    /// One pass along the columns of `from`, rows of `size`.
    #[inline(always)]
    fn down<T: Blur>(&self, from: &[T], size: usize, to: &mut [T]) {
        let weights = T::weights(self);
        let rows = from.len() / size;
        let row = |y: usize, shift: isize| {
            let y = y.saturating_add_signed(shift).min(rows - 1);
            &from[y * size..][..size]
        };
        let reach = self.whole as isize;
        for (y, to) in to.chunks_exact_mut(size).enumerate() {
            let (before, behind) = (row(y, -reach - 1), row(y, reach + 1));
            for (block, to) in to.chunks_mut(LANES).enumerate() {
                let at = block * LANES;
                let mut sums = [T::ZERO; LANES];
                for shift in -reach..=reach {
                    let values = &row(y, shift)[at..][..to.len()];
                    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum = T::add(*sum, *value));
                }
                let ends = before[at..].iter().zip(&behind[at..]);
                for ((to, sum), ends) in to.iter_mut().zip(&sums).zip(ends) {
                    *to = T::mix(weights, *sum, (*ends.0, *ends.1));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_stays_constant() {
        for radius in [0.1, 0.7, 2.0, 9.0] {
            let mut planes = Planes::new(12, vec![201u8; 12 * 12 * 3]);
            gaussian(&mut planes, radius);
            assert!(planes.values().iter().all(|&v| v == 201), "{radius}");
            let mut planes = Planes::new(12, vec![0.7f32; 12 * 12 * 2]);
            gaussian(&mut planes, radius);
            assert!(planes.values().iter().all(|&v| (v - 0.7).abs() < 1e-6), "{radius}");
        }
    }

    #[test]
    fn the_three_boxes_have_the_variance_of_the_gaussian() {
        for deviation in [0.3f32, 0.9, 1.5, 2.0, 5.0] {
            let b = BoxFilter::with_variance(deviation);
            let (inner, outer) = <u8 as Blur>::weights(&b);
            let unit = f64::from(1u32 << 24);
            let inner: f64 = (1..=b.whole).map(|d| (d * d) as f64).sum::<f64>() * 2.0 * f64::from(inner) / unit;
            let outer = ((b.whole + 1) * (b.whole + 1)) as f64 * 2.0 * f64::from(outer) / unit;
            let variance = PASSES as f64 * (inner + outer);
            // f32 formula, 24-bit weights.
            assert!((variance / f64::from(deviation * deviation) - 1.0).abs() < 1e-4, "{deviation} {variance}");
        }
    }

    #[test]
    fn rows_and_columns_blur_alike() {
        let mut pixels = vec![0u8; 9 * 9 * 3];
        pixels[4 * 9 + 4] = 255;
        let mut planes = Planes::new(9, pixels);
        gaussian(&mut planes, 1.0);
        let red = &planes.values()[..81];
        for y in 0..9 {
            for x in 0..9 {
                // Rows are rounded before columns.
                assert!(red[y * 9 + x].abs_diff(red[x * 9 + y]) <= 1);
            }
        }
        assert!(red[40] > red[41] && red[41] > red[42]);
    }
}
