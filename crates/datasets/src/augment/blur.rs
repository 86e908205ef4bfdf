//! Gaussian blur approximated by three box blurs along each axis, as in Pillow.

use super::planes::Planes;

/// Box blurs per axis.
const PASSES: usize = 3;

/// Blurs with a standard deviation of `radius` pixels; pixels beyond the border repeat it.
pub(super) fn gaussian(planes: &mut Planes, radius: f32) {
    if radius <= 0.0 {
        return;
    }
    let size = planes.size();
    let window = BoxFilter::with_variance(radius);
    let mut sums = vec![0u32; size];
    let mut copy = vec![0u8; size * size];
    let mut padded = vec![0u8; size + 2 * window.reach()];
    for plane in planes.channels() {
        for row in plane.chunks_exact_mut(size.max(1)) {
            for _ in 0..PASSES {
                window.along_row(row, &mut padded, &mut sums);
            }
        }
        for _ in 0..PASSES {
            copy.copy_from_slice(plane);
            window.along_columns(&copy, plane, &mut sums);
        }
    }
}

/// A box of `2 * whole + 1` pixels of the weight `inner` between two of the weight `outer`, in
/// 24-bit fixed point.
struct BoxFilter {
    whole: usize,
    inner: u32,
    outer: u32,
}

impl BoxFilter {
    /// The box that after all passes has the variance of a Gaussian of this standard deviation.
    fn with_variance(deviation: f32) -> Self {
        let variance = deviation * deviation / PASSES as f32;
        let length = (12.0 * variance + 1.0).sqrt();
        let whole = ((length - 1.0) / 2.0).floor();
        let part = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance)
            / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)));
        let one = (1u32 << 24) as f32;
        let inner = (one / ((whole + part) * 2.0 + 1.0)) as u32;
        let whole = whole as usize;
        let outer = (1u32 << 24).saturating_sub((2 * whole as u32 + 1) * inner) / 2;
        Self { whole, inner, outer }
    }

    /// Pixels on each side that take part.
    fn reach(&self) -> usize {
        self.whole + 1
    }

    /// Blurs `row` in place.
    fn along_row(&self, row: &mut [u8], padded: &mut [u8], sums: &mut [u32]) {
        let reach = self.reach();
        let (Some(&first), Some(&last)) = (row.first(), row.last()) else {
            return;
        };
        padded[..reach].fill(first);
        padded[reach..reach + row.len()].copy_from_slice(row);
        padded[reach + row.len()..].fill(last);
        sums.fill(1 << 23); // rounds
        for shift in 0..=2 * reach {
            add(sums, &padded[shift..], self.weight(shift));
        }
        take(sums, row);
    }

    /// Blurs every column of `from` into `to`.
    fn along_columns(&self, from: &[u8], to: &mut [u8], sums: &mut [u32]) {
        let size = sums.len();
        let reach = self.reach();
        for (y, out) in to.chunks_exact_mut(size.max(1)).enumerate() {
            sums.fill(1 << 23);
            for shift in 0..=2 * reach {
                let line = (y + shift).saturating_sub(reach).min(size - 1);
                add(sums, &from[line * size..], self.weight(shift));
            }
            take(sums, out);
        }
    }

    /// Weight of the pixel number `shift` from the left end of the box.
    fn weight(&self, shift: usize) -> u32 {
        if shift == 0 || shift == 2 * self.reach() { self.outer } else { self.inner }
    }
}

/// Adds `weight` times `values` to `sums`.
fn add(sums: &mut [u32], values: &[u8], weight: u32) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        // At most 255 * 2^24 + 2^23 in all, as the weights add up to no more than 2^24.
        *sum = sum.wrapping_add(weight * u32::from(value));
    }
}

/// The whole part of `sums`.
fn take(sums: &[u32], out: &mut [u8]) {
    for (value, sum) in out.iter_mut().zip(sums) {
        *value = (sum >> 24) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_stays_constant() {
        for radius in [0.1, 0.7, 2.0, 9.0] {
            let mut planes = Planes::split(&[201; 12 * 12 * 3], 12, false);
            gaussian(&mut planes, radius);
            assert!(planes.values().iter().all(|&v| v == 201), "{radius}");
        }
    }

    #[test]
    fn the_three_boxes_have_the_variance_of_the_gaussian() {
        for deviation in [0.3f32, 0.9, 1.5, 2.0, 5.0] {
            let b = BoxFilter::with_variance(deviation);
            let unit = f64::from(1u32 << 24);
            let inner: f64 = (1..=b.whole).map(|d| (d * d) as f64).sum::<f64>() * 2.0 * f64::from(b.inner) / unit;
            let outer = (b.reach() * b.reach()) as f64 * 2.0 * f64::from(b.outer) / unit;
            let variance = PASSES as f64 * (inner + outer);
            // f32 formula, 24-bit weights.
            assert!((variance / f64::from(deviation * deviation) - 1.0).abs() < 1e-4, "{deviation} {variance}");
        }
    }

    #[test]
    fn rows_and_columns_blur_alike() {
        let mut pixels = vec![0; 9 * 9 * 3];
        pixels[(4 * 9 + 4) * 3] = 255;
        let mut planes = Planes::split(&pixels, 9, false);
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
