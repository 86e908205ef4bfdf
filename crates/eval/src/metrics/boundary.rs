//! F, the agreement of the outlines of two regions.

use super::Region;
use crate::Error;

/// Tolerance of the outline as a fraction of the image's diagonal; DAVIS: `bound_th`.
const TOLERANCE: f64 = 0.008;

/// Distance in pixels up to which two outline pixels of a `width x height` image match.
pub fn boundary_radius(width: usize, height: usize) -> usize {
    let (w, h) = (width as f64, height as f64);
    (TOLERANCE * (w * w + h * h).sqrt()).ceil() as usize
}

/// F: harmonic mean of the fractions of each outline that lie within [`boundary_radius`] of the other; 1 if neither
/// region has an outline, 0 if only one has.
///
/// # Errors
/// [`Error::Shape`] if the sizes differ.
pub fn boundary_f(truth: &Region, guess: &Region) -> Result<f64, Error> {
    truth.same_size(guess)?;
    let (width, height) = (truth.width(), truth.height());
    let (expected, found) = (outline_pixels(truth), outline_pixels(guess));
    let (n_expected, n_found) = (expected.len(), found.len());
    if n_expected == 0 || n_found == 0 {
        return Ok(if n_expected == n_found { 1.0 } else { 0.0 });
    }
    let disk = Disk::new(boundary_radius(width, height));
    let share = |of: &[Pixel], near: &[Pixel]| {
        let cover = disk.cover(near, width, height);
        let hits = of.iter().filter(|p| cover[p.y * width + p.x]).count();
        hits as f64 / of.len() as f64
    };
    let precision = share(&found, &expected);
    let recall = share(&expected, &found);
    let sum = precision + recall;
    Ok(if sum == 0.0 { 0.0 } else { 2.0 * precision * recall / sum })
}

/// The outline of a region, as a region of the same size: the pixels that differ from the pixel to the right, below,
/// or to the lower right. DAVIS: `_seg2bmap`.
pub fn outline(region: &Region) -> Region {
    let mut inside = vec![false; region.inside().len()];
    for Pixel { x, y } in outline_pixels(region) {
        inside[y * region.width() + x] = true;
    }
    region.with(inside)
}

/// All pixels within `radius` of a pixel of `region`, as a region of the same size.
pub fn dilated(region: &Region, radius: usize) -> Region {
    let width = region.width();
    let pixels = region.inside().iter().enumerate().filter(|&(_, &inside)| inside);
    let centres: Vec<Pixel> = pixels.map(|(i, _)| Pixel { x: i % width, y: i / width }).collect();
    region.with(Disk::new(radius).cover(&centres, width, region.height()))
}

struct Pixel {
    x: usize,
    y: usize,
}

/// The pixels of [`outline`]. Neighbours outside the image repeat the border, so the border itself is not an outline.
fn outline_pixels(region: &Region) -> Vec<Pixel> {
    let width = region.width();
    let mut pixels = Vec::new();
    let mut rows = region.inside().chunks_exact(width.max(1)).enumerate().peekable();
    while let Some((y, row)) = rows.next() {
        let below = rows.peek().map_or(row, |&(_, below)| below);
        for (x, &here) in row.iter().enumerate() {
            let right = (x + 1).min(width - 1);
            if here != row[right] || here != below[x] || here != below[right] {
                pixels.push(Pixel { x, y });
            }
        }
    }
    pixels
}

/// All offsets with `dx^2 + dy^2 <= radius^2`, as one span per row.
struct Disk {
    radius: usize,
    /// Half width of the span `dy` rows from the centre, for `dy` in `0..=radius`.
    half: Vec<usize>,
}

impl Disk {
    fn new(radius: usize) -> Self {
        let half = (0..=radius).map(|dy| (radius * radius - dy * dy).isqrt()).collect();
        Self { radius, half }
    }

    /// Pixels covered by a disk around any of `centres`: spans are opened and closed in an array of differences,
    /// whose running sum is positive inside a span.
    fn cover(&self, centres: &[Pixel], width: usize, height: usize) -> Vec<bool> {
        let mut steps = vec![0_i32; (width + 1) * height];
        for centre in centres {
            let rows = centre.y.saturating_sub(self.radius)..(centre.y + self.radius + 1).min(height);
            for y in rows {
                let half = self.half[y.abs_diff(centre.y)];
                steps[y * (width + 1) + centre.x.saturating_sub(half)] += 1;
                steps[y * (width + 1) + (centre.x + half + 1).min(width)] -= 1;
            }
        }
        let mut cover = Vec::with_capacity(width * height);
        for row in steps.chunks_exact(width + 1) {
            let mut open = 0;
            cover.extend(row[..width].iter().map(|step| {
                open += step;
                open > 0
            }));
        }
        cover
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::region_similarity;

    fn region(rows: &[&str]) -> Region {
        let inside = rows.concat().bytes().map(|b| b == b'#').collect();
        Region::new(rows[0].len(), rows.len(), inside).unwrap()
    }

    #[test]
    fn the_outline_is_one_pixel_wide() {
        let square = region(&["......", "......", "..##..", "..##..", "......"]);
        let pixels: Vec<_> = outline_pixels(&square).iter().map(|p| (p.y, p.x)).collect();
        assert_eq!(pixels, [(1, 1), (1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2), (3, 3)]);
        assert!(outline_pixels(&region(&["###", "###"])).is_empty());
        let edge = region(&["#..", "#.."]);
        assert_eq!(outline_pixels(&edge).iter().map(|p| (p.y, p.x)).collect::<Vec<_>>(), [(0, 0), (1, 0)]);
    }

    #[test]
    fn radii_and_disks_follow_davis() {
        for (w, h, radius) in [(854, 480, 8), (910, 480, 9), (120, 100, 2), (1280, 720, 12), (160, 96, 2), (8, 6, 1)] {
            assert_eq!(boundary_radius(w, h), radius, "{w} x {h}");
        }
        let point = region(&[".....", ".....", "..#..", ".....", "....."]);
        assert_eq!(dilated(&point, 2), region(&["..#..", ".###.", "#####", ".###.", "..#.."]));
    }

    #[test]
    fn spans_cover_what_disks_cover() {
        let (width, height) = (23, 17);
        let centres: Vec<_> = (0..9).map(|i| Pixel { x: i * 7 % width, y: i * 5 % height }).collect();
        for radius in 0..7 {
            let cover = Disk::new(radius).cover(&centres, width, height);
            for (i, covered) in cover.into_iter().enumerate() {
                let (x, y) = (i % width, i / width);
                let near = |c: &Pixel| x.abs_diff(c.x).pow(2) + y.abs_diff(c.y).pow(2) <= radius * radius;
                assert_eq!(covered, centres.iter().any(near), "radius {radius}, {x}, {y}");
            }
        }
    }

    #[test]
    fn empty_and_full_regions() {
        let blank = |inside| Region::new(30, 20, vec![inside; 600]).unwrap();
        let mut part = vec![false; 600];
        for y in 5..10 {
            part[y * 30 + 5..y * 30 + 10].fill(true);
        }
        let part = Region::new(30, 20, part).unwrap();
        let both = |a: &Region, b: &Region| (region_similarity(a, b).unwrap(), boundary_f(a, b).unwrap());
        let (none, full) = (blank(false), blank(true));
        assert_eq!(both(&none, &none), (1.0, 1.0));
        assert_eq!(both(&full, &full), (1.0, 1.0));
        assert_eq!(both(&part, &part), (1.0, 1.0));
        assert_eq!(both(&part, &none), (0.0, 0.0));
        assert_eq!(both(&none, &part), (0.0, 0.0));
        assert_eq!(both(&full, &part), (25.0 / 600.0, 0.0));
        let small = Region::new(2, 2, vec![true; 4]).unwrap();
        assert!(boundary_f(&full, &small).is_err() && region_similarity(&full, &small).is_err());
        let no_pixels = Region::new(0, 0, Vec::new()).unwrap();
        assert_eq!(both(&no_pixels, &no_pixels), (1.0, 1.0));
    }
}
