//! Values that do not fit a byte.

/// A value as Pillow makes a byte of it, cut off and not scaled; those that are cut off are counted.
pub(super) fn cut(value: f32, count: &mut u64) -> u8 {
    *count += u64::from(!(0. ..256.).contains(&value));
    value.clamp(0., 255.) as u8
}
