//! The three resamplings of the protocol, each with the arithmetic of the library it comes from.
//!
//! They differ on purpose: masks are resampled as Pillow does, frames as OpenCV does, soft masks as PyTorch does.
//! Scores change if one is replaced by another.

use crate::Error;
use selfpatch_datasets::Rgb;

/// Nearest-neighbour resize of an id map `[h, w] -> [new_h, new_w]`, as Pillow's `NEAREST`.
///
/// Pillow accumulates the source position in `f64` instead of computing it, so rounding errors add up: from 480 to
/// 720 columns, 99 differ from `floor((i + 0.5) * 480 / 720)`.
///
/// # Errors
/// [`Error::Shape`] if `ids` does not have `w * h` entries or a side is zero.
pub fn pillow_nearest(ids: &[u8], w: usize, h: usize, new_w: usize, new_h: usize) -> Result<Vec<u8>, Error> {
    check_area("ids of a nearest resize", ids.len(), w, h, 1)?;
    check_sides("target of a nearest resize", new_w, new_h)?;
    let columns = nearest_positions(w, new_w);
    let mut out = Vec::with_capacity(new_w * new_h);
    for y in nearest_positions(h, new_h) {
        let row = &ids[y * w..(y + 1) * w];
        out.extend(columns.iter().map(|&x| row[x]));
    }
    Ok(out)
}

/// Source index of each of `n_out` samples; every one is below `n_in`, which must not be zero.
fn nearest_positions(n_in: usize, n_out: usize) -> Vec<usize> {
    let step = n_in as f64 / n_out as f64;
    let mut position = step * 0.5;
    (0..n_out)
        .map(|_| {
            let index = (position as usize).min(n_in - 1);
            position += step;
            index
        })
        .collect()
}

/// Bilinear resize of a frame, bit for bit as OpenCV's `INTER_LINEAR` on 8-bit images
/// (half-pixel centres, no anti-aliasing, weights of 11 bits).
///
/// # Errors
/// [`Error::Shape`] if the pixels do not fill the image or a side is zero.
pub fn cv_linear(frame: &Rgb, new_w: usize, new_h: usize) -> Result<Rgb, Error> {
    let (w, h) = (frame.width, frame.height);
    check_area("pixels of a frame", frame.pixels.len(), w, h, 3)?;
    check_sides("target of a frame resize", new_w, new_h)?;
    let mut columns = cv_taps(w, new_w);
    for tap in &mut columns {
        // OpenCV drops the fraction outside the image along x only; along y it clamps the rows.
        if tap.outside {
            tap.weights = [ONE, 0];
        }
    }
    let rows = cv_taps(h, new_h);

    // Horizontal pass, 11 fractional bits: at most 255 * 2048, of which 15 bits enter the second.
    let mut wide = Vec::with_capacity(h * new_w * 3);
    for row in frame.pixels.chunks_exact(w * 3) {
        for tap in &columns {
            for c in 0..3 {
                let left = i32::from(row[tap.near * 3 + c]);
                let right = i32::from(row[tap.far * 3 + c]);
                wide.push((left * tap.weights[0] + right * tap.weights[1]) >> 4);
            }
        }
    }

    let mut pixels = Vec::with_capacity(new_h * new_w * 3);
    for tap in &rows {
        let stride = new_w * 3;
        let above = &wide[tap.near * stride..(tap.near + 1) * stride];
        let below = &wide[tap.far * stride..(tap.far + 1) * stride];
        pixels.extend(above.iter().zip(below).map(|(&a, &b)| {
            let sum = ((a * tap.weights[0]) >> 16) + ((b * tap.weights[1]) >> 16);
            ((sum + 2) >> 2).clamp(0, 255) as u8
        }));
    }
    Ok(Rgb { width: new_w, height: new_h, pixels })
}

/// A weight of one in OpenCV's fixed point.
const ONE: i32 = 1 << 11;

/// The two source samples of one output sample and their weights.
struct CvTap {
    near: usize,
    far: usize,
    weights: [i32; 2],
    outside: bool,
}

fn cv_taps(n_in: usize, n_out: usize) -> Vec<CvTap> {
    let last = n_in as i64 - 1;
    let scale = n_in as f64 / n_out as f64;
    (0..n_out)
        .map(|i| {
            let position = ((i as f64 + 0.5) * scale - 0.5) as f32;
            let base = position.floor();
            let fraction = position - base;
            let base = base as i64;
            let fixed = |weight: f32| (weight * ONE as f32).round_ties_even() as i32;
            CvTap {
                near: base.clamp(0, last) as usize,
                far: (base + 1).clamp(0, last) as usize,
                weights: [fixed(1.0 - fraction), fixed(fraction)],
                outside: base < 0 || base >= last,
            }
        })
        .collect()
}

/// Enlarges planes `[C, h, w] -> [C, h * factor, w * factor]` bilinearly with half-pixel centres
/// and clamped borders, as PyTorch's `interpolate(scale_factor, "bilinear", align_corners=False)`.
///
/// # Errors
/// [`Error::Shape`] if `soft` is not a whole number of planes or a side or `factor` is zero.
pub fn bilinear_up(soft: &[f32], h: usize, w: usize, factor: usize) -> Result<Vec<f32>, Error> {
    check_sides("plane to enlarge", w, h)?;
    check_sides("enlargement", factor, factor)?;
    if !soft.len().is_multiple_of(h * w) {
        return Err(Error::shape("planes to enlarge", format!("[C, {h}, {w}]"), soft.len()));
    }
    let columns = up_taps(w, factor);
    let rows = up_taps(h, factor);
    let width = w * factor;
    let mut out = Vec::with_capacity(soft.len() * factor * factor);
    let mut wide = Vec::with_capacity(h * width);
    for plane in soft.chunks_exact(h * w) {
        wide.clear();
        for row in plane.chunks_exact(w) {
            let lerp = |&(a, b, t): &(usize, usize, f32)| (1.0 - t) * row[a] + t * row[b];
            wide.extend(columns.iter().map(lerp));
        }
        for &(a, b, t) in &rows {
            let above = &wide[a * width..(a + 1) * width];
            let below = &wide[b * width..(b + 1) * width];
            out.extend(above.iter().zip(below).map(|(&x, &y)| (1.0 - t) * x + t * y));
        }
    }
    Ok(out)
}

/// For each output sample the two source indices and the weight of the second.
fn up_taps(n: usize, factor: usize) -> Vec<(usize, usize, f32)> {
    let scale = (1.0 / factor as f64) as f32;
    (0..n * factor)
        .map(|i| {
            let position = (scale * (i as f32 + 0.5) - 0.5).max(0.0);
            let base = (position as usize).min(n - 1);
            (base, (base + 1).min(n - 1), position - base as f32)
        })
        .collect()
}

fn check_area(what: &'static str, len: usize, w: usize, h: usize, channels: usize) -> Result<(), Error> {
    check_sides(what, w, h)?;
    if len != w * h * channels {
        return Err(Error::shape(what, format!("{h} x {w} x {channels} values"), len));
    }
    Ok(())
}

fn check_sides(what: &'static str, w: usize, h: usize) -> Result<(), Error> {
    if w == 0 || h == 0 {
        return Err(Error::shape(what, "sides of at least 1", format!("{h} x {w}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_accumulates_its_position() {
        let row: Vec<u8> = (0..480).map(|i| (i % 251) as u8).collect();
        let positions = nearest_positions(480, 720);
        let closed = |i: usize| ((i as f64 + 0.5) * 480.0 / 720.0) as usize;
        let differing = positions.iter().enumerate().filter(|&(i, &p)| p != closed(i)).count();
        assert_eq!(differing, 99);
        let resized = pillow_nearest(&row, 480, 1, 720, 1).unwrap();
        assert!(resized.iter().zip(&positions).all(|(&id, &p)| id == row[p]));
    }

    #[test]
    fn same_size_changes_nothing() {
        let pixels: Vec<u8> = (0..7 * 5 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let frame = Rgb { width: 7, height: 5, pixels };
        assert_eq!(cv_linear(&frame, 7, 5).unwrap(), frame);
        let ids: Vec<u8> = (0..35).collect();
        assert_eq!(pillow_nearest(&ids, 7, 5, 7, 5).unwrap(), ids);
        let soft: Vec<f32> = (0..35).map(|i| i as f32).collect();
        assert_eq!(bilinear_up(&soft, 5, 7, 1).unwrap(), soft);
    }

    /// OpenCV's rule worked out by hand for one row: 4 -> 6 and 4 -> 3 columns.
    #[test]
    fn cv_weights_have_eleven_bits() {
        let grey = |v: &[u8]| v.iter().flat_map(|&x| [x, x, x]).collect::<Vec<u8>>();
        let frame = Rgb { width: 4, height: 1, pixels: grey(&[0, 90, 180, 255]) };
        let red = |image: Rgb| image.pixels.chunks(3).map(|p| p[0]).collect::<Vec<u8>>();
        // positions -1/6, 1/2, 7/6, 11/6, 5/2, 19/6
        assert_eq!(red(cv_linear(&frame, 6, 1).unwrap()), [0, 45, 105, 165, 218, 255]);
        // positions 1/6, 3/2, 17/6
        assert_eq!(red(cv_linear(&frame, 3, 1).unwrap()), [15, 135, 243]);
    }

    #[test]
    fn enlarging_clamps_the_border() {
        let up = bilinear_up(&[0.0, 4.0], 1, 2, 2).unwrap();
        assert_eq!(up, [0.0, 1.0, 3.0, 4.0, 0.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        assert!(pillow_nearest(&[1, 2, 3], 2, 2, 4, 4).is_err());
        assert!(pillow_nearest(&[1], 1, 1, 0, 4).is_err());
        assert!(bilinear_up(&[1.0; 5], 2, 2, 2).is_err());
        let frame = Rgb { width: 2, height: 2, pixels: vec![0; 11] };
        assert!(cv_linear(&frame, 4, 4).is_err());
    }
}
