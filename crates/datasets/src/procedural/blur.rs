//! A Gaussian blur of one floating-point plane.

/// Blurs a square `plane` of `size` columns in place, mirroring at the border without repeating
/// the border pixel. `scratch` is overwritten.
pub(super) fn gaussian(plane: &mut [f32], size: usize, sigma: f32, scratch: &mut Vec<f32>) {
    let kernel = half_kernel(sigma);
    let radius = kernel.len() - 1; // at least the centre is there
    if size == 0 || plane.len() != size * size {
        return;
    }
    let mirror = |i: isize| reflect(i, size);
    let mut padded = vec![0.0; size + 2 * radius];
    scratch.clear();
    for row in plane.chunks_exact(size) {
        for (k, slot) in padded.iter_mut().enumerate() {
            *slot = row[mirror(k as isize - radius as isize)];
        }
        let start = scratch.len();
        scratch.extend(padded[radius..radius + size].iter().map(|v| v * kernel[0]));
        for (d, weight) in kernel.iter().enumerate().skip(1) {
            let sides = padded[radius - d..].iter().zip(&padded[radius + d..]);
            for (sum, (a, b)) in scratch[start..].iter_mut().zip(sides) {
                *sum += weight * (a + b);
            }
        }
    }
    for (y, row) in plane.chunks_exact_mut(size).enumerate() {
        let line = |dy: isize| {
            let from = mirror(y as isize + dy) * size;
            &scratch[from..from + size]
        };
        for (out, v) in row.iter_mut().zip(line(0)) {
            *out = v * kernel[0];
        }
        for (d, weight) in kernel.iter().enumerate().skip(1) {
            let sides = line(-(d as isize)).iter().zip(line(d as isize));
            for (out, (a, b)) in row.iter_mut().zip(sides) {
                *out += weight * (a + b);
            }
        }
    }
}

/// Weights at distance 0, 1, ..., to four standard deviations; both sides together sum to one.
fn half_kernel(sigma: f32) -> Vec<f32> {
    let radius = (4.0 * sigma).round().max(1.0) as usize;
    let mut weights: Vec<f32> = (0..=radius).map(|d| (-0.5 * (d as f32 / sigma).powi(2)).exp()).collect();
    let sum = 2.0 * weights.iter().sum::<f32>() - 1.0; // the centre, exp(0), counts once
    weights.iter_mut().for_each(|w| *w /= sum);
    weights
}

/// `i` mirrored into `0..size` around the first and the last pixel.
fn reflect(i: isize, size: usize) -> usize {
    let period = 2 * (size as isize - 1);
    if period == 0 {
        return 0;
    }
    let folded = i.rem_euclid(period);
    folded.min(period - folded) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_a_point_as_a_gaussian_and_keeps_its_mass() {
        let mut plane = vec![0.0; 15 * 15];
        plane[7 * 15 + 7] = 1.0;
        gaussian(&mut plane, 15, 0.8, &mut Vec::new());
        assert!((plane.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let ratio = plane[7 * 15 + 8] / plane[7 * 15 + 7];
        assert!((ratio - (-0.5f32 / 0.64).exp()).abs() < 1e-5);
        assert_eq!(plane[6 * 15 + 7], plane[7 * 15 + 8]);
    }

    #[test]
    fn a_constant_stays_constant_on_any_size() {
        for size in 1..6 {
            let mut plane = vec![0.25; size * size];
            gaussian(&mut plane, size, 0.7, &mut Vec::new());
            assert!(plane.iter().all(|v| (v - 0.25).abs() < 1e-6));
        }
        assert_eq!([-2, -1, 0, 3, 4, 5].map(|i| reflect(i, 4)), [2, 1, 0, 3, 2, 1]);
    }
}
