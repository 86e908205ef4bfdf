//! Changes of colour on bytes, with the rounding of Pillow.

use super::planes::Planes;

/// Brightness of a colour by ITU-R 601, in 16-bit fixed point.
#[inline(always)]
fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 0x8000) >> 16) as u8
}

/// `from + factor * (to - from)`, cut to 0..=255 and then truncated.
#[inline(always)]
fn blend(from: f32, to: f32, factor: f32) -> u8 {
    (from + factor * (to - from)).clamp(0.0, 255.0) as i32 as u8
}

/// Replaces every value by its entry.
fn look_up(values: &mut [u8], table: &[u8; 256]) {
    for value in values {
        *value = table[usize::from(*value)];
    }
}

/// A table of a function of bytes.
fn table(of: impl Fn(f32) -> u8) -> [u8; 256] {
    std::array::from_fn(|v| of(v as f32))
}

/// Moves all values away from or towards black.
pub(super) fn brightness(planes: &mut Planes, factor: f32) {
    look_up(planes.values(), &table(|v| blend(0.0, v, factor)));
}

/// Moves all values away from or towards the rounded mean brightness.
pub(super) fn contrast(planes: &mut Planes, factor: f32) {
    let [red, green, blue] = planes.channels();
    let area = red.len() as u64;
    let sum: u64 = red.iter().zip(green).zip(blue).map(|((r, g), b)| u64::from(luma(*r, *g, *b))).sum();
    let mean = ((2 * sum + area) / (2 * area.max(1))) as f32;
    look_up(planes.values(), &table(|v| blend(mean, v, factor)));
}

/// Moves all colours away from or towards grey.
pub(super) fn saturation(planes: &mut Planes, factor: f32) {
    let [red, green, blue] = planes.channels();
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let grey = f32::from(luma(*r, *g, *b));
        for value in [r, g, b] {
            *value = blend(grey, f32::from(*value), factor);
        }
    }
}

/// Brightens or darkens each channel on its own.
pub(super) fn gain(planes: &mut Planes, factors: [f32; 3]) {
    for (plane, factor) in planes.channels().into_iter().zip(factors) {
        look_up(plane, &table(|v| blend(0.0, v, factor)));
    }
}

/// Replaces every colour by its brightness.
pub(super) fn grey(planes: &mut Planes) {
    let [red, green, blue] = planes.channels();
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let grey = luma(*r, *g, *b);
        (*r, *g, *b) = (grey, grey, grey);
    }
}

/// Inverts the values from 128 on.
pub(super) fn solarize(planes: &mut Planes) {
    for value in planes.values() {
        *value = (*value).min(255 - *value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planes() -> Planes {
        // Two by two: red, mid grey, white, a dark blue.
        Planes::split(&[255, 0, 0, 128, 128, 128, 255, 255, 255, 10, 20, 90], 2, false)
    }

    fn after(op: impl Fn(&mut Planes)) -> Vec<u8> {
        let mut planes = planes();
        op(&mut planes);
        planes.into_bytes()
    }

    #[test]
    fn a_factor_of_one_changes_nothing() {
        let same = planes().into_bytes();
        assert_eq!(after(|p| brightness(p, 1.0)), same);
        assert_eq!(after(|p| contrast(p, 1.0)), same);
        assert_eq!(after(|p| saturation(p, 1.0)), same);
        assert_eq!(after(|p| gain(p, [1.0; 3])), same);
    }

    #[test]
    fn known_values() {
        assert_eq!(after(|p| brightness(p, 0.5)), [127, 64, 127, 5, 0, 64, 127, 10, 0, 64, 127, 45]);
        // Lumas 76, 128, 255 and 25: the mean 121 stays.
        assert_eq!(after(|p| contrast(p, 0.0)), [121; 12]);
        assert_eq!(after(grey), [76, 128, 255, 25].repeat(3));
        assert_eq!(after(|p| saturation(p, 0.0)), [76, 128, 255, 25].repeat(3));
        assert_eq!(after(solarize), [0, 127, 0, 10, 0, 127, 0, 20, 0, 127, 0, 90]);
        assert_eq!(after(|p| gain(p, [0.0, 1.0, 2.0]))[..5], [0, 0, 0, 0, 0]);
        assert_eq!(after(|p| gain(p, [0.0, 1.0, 2.0]))[8..], [0, 255, 255, 180]);
    }
}
