//! Conversion of soft masks on the token grid to one id per pixel.

use crate::Error;
use crate::resize::{bilinear_up, pillow_nearest};
use selfpatch_datasets::Mask;

/// Decides an id for every pixel of the original frame.
///
/// `soft` is `[C, h, w]`. Each class is enlarged `patch` times and stretched to 0..1 separately if its maximum is
/// positive; the highest value wins (the lower id on a tie), and the map is resized to `out_w x out_h` by nearest
/// neighbour.
///
/// A class with the same positive value everywhere (within `f32` rounding of the votes' sum) has nothing to stretch.
/// The reference divides zero by zero there and the NaN wins every pixel; here such a class keeps its value, which is
/// its share of the votes.
///
/// # Errors
/// [`Error::Shape`] if `soft` is not 1 to 256 planes of `h x w`, or a size is zero.
pub fn decide(soft: &[f32], h: usize, w: usize, patch: usize, out_w: usize, out_h: usize) -> Result<Mask, Error> {
    let area = h * w;
    let classes = soft.len().checked_div(area).unwrap_or(0);
    if classes == 0 || classes > 256 || classes * area != soft.len() {
        let expected = format!("[C, {h}, {w}] with C in 1..=256");
        return Err(Error::shape("soft masks", expected, soft.len()));
    }
    let mut best = vec![f32::NEG_INFINITY; area * patch * patch];
    let mut ids = vec![0_u8; best.len()];
    for (id, plane) in (0..=u8::MAX).zip(soft.chunks_exact(area)) {
        let mut wide = bilinear_up(plane, h, w, patch)?;
        stretch(&mut wide);
        for ((value, best), winner) in wide.iter().zip(&mut best).zip(&mut ids) {
            if value > best {
                (*best, *winner) = (*value, id);
            }
        }
    }
    let ids = pillow_nearest(&ids, w * patch, h * patch, out_w, out_h)?;
    Ok(Mask { width: out_w, height: out_h, ids })
}

/// Maps the values of one class onto 0..1, unless none is positive or all are the same, as
/// [`decide`] describes. Reference: `norm_mask`.
pub fn stretch(values: &mut [f32]) {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let range = high - low;
    if high > 0.0 && range > CONSTANT * high {
        for value in values {
            *value = (*value - low) / range;
        }
    }
}

/// Relative range up to which a class counts as constant: votes sum to 1 within a few `f32` roundings.
const CONSTANT: f32 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_is_stretched_before_they_compete() {
        // Raw, class 0 wins everywhere; stretched, class 1 wins the right half.
        let soft = [0.9, 0.8, 0.1, 0.2];
        let mask = decide(&soft, 1, 2, 2, 4, 2).unwrap();
        assert_eq!(mask.ids, [0, 0, 1, 1, 0, 0, 1, 1]);
    }

    #[test]
    fn a_constant_class_does_not_win_by_nan() {
        let soft = [0.2, 0.2, 0.8, 0.0, 0.0, 0.8];
        assert_eq!(decide(&soft, 1, 2, 1, 2, 1).unwrap().ids, [1, 2]);
        // Everything is object 1, up to rounding.
        let soft = [0.0, 0.0, 1.0, 1.0 - f32::EPSILON];
        assert_eq!(decide(&soft, 1, 2, 1, 2, 1).unwrap().ids, [1, 1]);
        assert_eq!(decide(&[1.0, 1.0], 1, 2, 1, 2, 1).unwrap().ids, [0, 0]);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        assert!(decide(&[], 1, 2, 1, 2, 1).is_err());
        assert!(decide(&[0.0; 3], 1, 2, 1, 2, 1).is_err());
        assert!(decide(&[0.0; 4], 1, 2, 0, 2, 1).is_err());
        assert!(decide(&[0.0; 4], 0, 2, 1, 2, 1).is_err());
    }
}
