//! Where to crop: a random area and a random shape, as in torchvision's RandomResizedCrop.

use rand_chacha::ChaCha8Rng;

use crate::random::{below, log_uniform, uniform};

/// A rectangle of pixels inside an image, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// Draws a window of an image of (columns, rows) with an area of `scale` times the image's and a
/// width / height within `ratio`.
///
/// After ten windows that stick out, the largest central window with an allowed shape is taken.
pub(super) fn draw((columns, rows): (usize, usize), scale: [f32; 2], ratio: [f32; 2], rng: &mut ChaCha8Rng) -> Window {
    let area = (columns * rows) as f32;
    for _ in 0..10 {
        let area = area * uniform(rng, scale[0], scale[1]);
        let ratio = log_uniform(rng, ratio[0], ratio[1]);
        let width = (area * ratio).sqrt().round() as usize;
        let height = (area / ratio).sqrt().round() as usize;
        if (1..=columns).contains(&width) && (1..=rows).contains(&height) {
            let top = below(rng, rows - height + 1);
            let left = below(rng, columns - width + 1);
            return Window { left, top, width, height };
        }
    }
    central((columns, rows), ratio)
}

/// The largest central window with a width / height within `ratio`.
fn central((columns, rows): (usize, usize), ratio: [f32; 2]) -> Window {
    let (mut width, mut height) = (columns, rows);
    let own = width as f32 / height as f32;
    if own < ratio[0] {
        height = ((width as f32 / ratio[0]).round() as usize).clamp(1, height.max(1));
    } else if own > ratio[1] {
        width = ((height as f32 * ratio[1]).round() as usize).clamp(1, width.max(1));
    }
    Window { left: (columns - width) / 2, top: (rows - height) / 2, width, height }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    #[test]
    fn windows_are_inside_and_have_the_wanted_area_and_shape() {
        let mut rng = stream(0, Purpose::Crop, 0, 0);
        for _ in 0..2000 {
            let w = draw((500, 375), [0.2, 0.6], [0.75, 4.0 / 3.0], &mut rng);
            assert!(w.left + w.width <= 500 && w.top + w.height <= 375);
            let area = (w.width * w.height) as f32 / (500.0 * 375.0);
            let ratio = w.width as f32 / w.height as f32;
            // Sides are rounded to whole pixels, 0.5 of at least 150.
            assert!((0.198..0.604).contains(&area), "{w:?}");
            assert!((0.745..1.34).contains(&ratio), "{w:?}");
        }
    }

    #[test]
    fn a_strip_falls_back_to_its_centre() {
        let mut rng = stream(0, Purpose::Crop, 0, 0);
        let window = draw((400, 3), [0.9, 1.0], [0.75, 4.0 / 3.0], &mut rng);
        assert_eq!(window, Window { left: 198, top: 0, width: 4, height: 3 });
        let window = draw((1, 50), [0.9, 1.0], [1.0, 1.0], &mut rng);
        assert_eq!(window, Window { left: 0, top: 24, width: 1, height: 1 });
    }

    #[test]
    fn the_whole_image_can_be_asked_for() {
        let mut rng = stream(0, Purpose::Crop, 0, 0);
        let window = draw((64, 64), [1.0, 1.0], [1.0, 1.0], &mut rng);
        assert_eq!(window, Window { left: 0, top: 0, width: 64, height: 64 });
    }
}
