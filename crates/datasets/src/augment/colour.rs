//! Changes of colour, on bytes with the rounding of Pillow, and on floats between 0 and 1.

use super::planes::Planes;
use selfpatch_simd::wide;

/// Brightness of a colour by ITU-R 601, in 16-bit fixed point.
#[inline(always)]
fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 0x8000) >> 16) as u8
}

/// `from + factor * (to - from)`, cut to 0..=255 and then truncated. `factor` is a number.
#[inline(always)]
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let mixed = f32::from(from) + factor * (i32::from(to) - i32::from(from)) as f32;
    // SAFETY: between 0 and 255, as a finite factor makes no NaN; callers assert that it is finite.
    unsafe { mixed.clamp(0.0, 255.0).to_int_unchecked::<i32>() as u8 }
}

/// Replaces every value by `of(value)`.
fn each(values: &mut [u8], of: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|v| of(v as u8));
    values.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}

/// Moves all values away from or towards black.
pub(super) fn brightness(planes: &mut Planes<u8>, factor: f32) {
    assert!(factor.is_finite());
    each(planes.values(), |v| blend(0, v, factor));
}

/// Moves all values away from or towards the rounded mean brightness.
pub(super) fn contrast(planes: &mut Planes<u8>, factor: f32) {
    assert!(factor.is_finite());
    let [red, green, blue] = planes.rgb();
    let area = red.len() as u64;
    let mut sum = 0u64;
    for ((r, g), b) in red.chunks(4096).zip(green.chunks(4096)).zip(blue.chunks(4096)) {
        let pixels = r.iter().zip(g).zip(b);
        sum += u64::from(wide!(pixels.map(|((r, g), b)| u32::from(luma(*r, *g, *b))).sum::<u32>()));
    }
    let mean = ((2 * sum + area) / (2 * area.max(1))) as u8;
    each(planes.values(), |v| blend(mean, v, factor));
}

/// Contrast of pictures that are not RGB: the mean is that of all channels.
pub(super) fn contrast_of_all(planes: &mut Planes<u8>, factor: f32) {
    assert!(factor.is_finite());
    let count = planes.values().len() as u64;
    let sum: u64 = planes.values().iter().map(|&v| u64::from(v)).sum();
    let mean = ((2 * sum + count) / (2 * count.max(1))) as u8;
    each(planes.values(), |v| blend(mean, v, factor));
}

/// Moves all colours away from or towards grey.
pub(super) fn saturation(planes: &mut Planes<u8>, factor: f32) {
    assert!(factor.is_finite());
    let [red, green, blue] = planes.rgb();
    wide!(for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let grey = luma(*r, *g, *b);
        (*r, *g, *b) = (blend(grey, *r, factor), blend(grey, *g, factor), blend(grey, *b, factor));
    });
}

/// Brightens or darkens each channel on its own.
pub(super) fn gain(planes: &mut Planes<u8>, factors: &[f32]) {
    assert!(factors.iter().all(|f| f.is_finite()));
    for (plane, &factor) in planes.channels().zip(factors) {
        each(plane, |v| blend(0, v, factor));
    }
}

/// Replaces every colour by its brightness.
pub(super) fn grey(planes: &mut Planes<u8>) {
    let [red, green, blue] = planes.rgb();
    wide!(for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let grey = luma(*r, *g, *b);
        (*r, *g, *b) = (grey, grey, grey);
    });
}

/// Inverts the values from 128 on.
pub(super) fn solarize(planes: &mut Planes<u8>) {
    wide!(planes.values().iter_mut().for_each(|v| *v = (*v).min(255 - *v)));
}

/// Colour operations on values between 0 and 1, of any number of channels. Those that mix channels
/// have no counterpart.
pub(super) mod floats {
    use super::{Planes, wide};

    /// See [`brightness`](super::brightness).
    pub fn brightness(planes: &mut Planes<f32>, factor: f32) {
        wide!(planes.values().iter_mut().for_each(|v| *v = (*v * factor).clamp(0., 1.)));
    }

    /// See [`contrast`](super::contrast); the mean is that of all channels.
    pub fn contrast(planes: &mut Planes<f32>, factor: f32) {
        let values = planes.values();
        let mean = (values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len().max(1) as f64) as f32;
        wide!(values.iter_mut().for_each(|v| *v = (mean + factor * (*v - mean)).clamp(0., 1.)));
    }

    /// See [`gain`](super::gain).
    pub fn gain(planes: &mut Planes<f32>, factors: &[f32]) {
        for (plane, &factor) in planes.channels().zip(factors) {
            wide!(plane.iter_mut().for_each(|v| *v = (*v * factor).clamp(0., 1.)));
        }
    }

    /// See [`solarize`](super::solarize).
    pub fn solarize(planes: &mut Planes<f32>) {
        wide!(planes.values().iter_mut().for_each(|v| *v = v.min(1. - *v)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planes() -> Planes<u8> {
        // Two by two: red, mid grey, white, a dark blue.
        Planes::new(2, vec![255, 128, 255, 10, 0, 128, 255, 20, 0, 128, 255, 90])
    }

    fn after(op: impl Fn(&mut Planes<u8>)) -> Vec<u8> {
        let mut planes = planes();
        op(&mut planes);
        planes.into_values()
    }

    #[test]
    fn a_factor_of_one_changes_nothing() {
        let same = planes().into_values();
        assert_eq!(after(|p| brightness(p, 1.0)), same);
        assert_eq!(after(|p| contrast(p, 1.0)), same);
        assert_eq!(after(|p| saturation(p, 1.0)), same);
        assert_eq!(after(|p| gain(p, &[1.0; 3])), same);
    }

    #[test]
    fn known_values() {
        assert_eq!(after(|p| brightness(p, 0.5)), [127, 64, 127, 5, 0, 64, 127, 10, 0, 64, 127, 45]);
        // Lumas 76, 128, 255 and 25: the mean 121 stays.
        assert_eq!(after(|p| contrast(p, 0.0)), [121; 12]);
        assert_eq!(after(grey), [76, 128, 255, 25].repeat(3));
        assert_eq!(after(|p| saturation(p, 0.0)), [76, 128, 255, 25].repeat(3));
        assert_eq!(after(solarize), [0, 127, 0, 10, 0, 127, 0, 20, 0, 127, 0, 90]);
        assert_eq!(after(|p| gain(p, &[0.0, 1.0, 2.0]))[..5], [0, 0, 0, 0, 0]);
        assert_eq!(after(|p| gain(p, &[0.0, 1.0, 2.0]))[8..], [0, 255, 255, 180]);
    }

    #[test]
    fn floats_follow_the_bytes() {
        let mut f = Planes::new(2, planes().into_values().iter().map(|&v| f32::from(v) / 255.).collect());
        let mut b = planes();
        brightness(&mut b, 1.3);
        floats::brightness(&mut f, 1.3);
        gain(&mut b, &[0.9, 1.1, 0.5]);
        floats::gain(&mut f, &[0.9, 1.1, 0.5]);
        solarize(&mut b);
        floats::solarize(&mut f);
        // Bytes are truncated twice.
        assert!(b.values().iter().zip(f.values()).all(|(b, f)| (f32::from(*b) - *f * 255.).abs() < 2.5));
        let mut same = Planes::new(1, vec![0.2f32, 0.4, 0.9]);
        floats::contrast(&mut same, 0.0);
        assert!(same.values().iter().all(|v| (v - 0.5).abs() < 1e-6));
    }
}
