//! A crop as a picture that can be drawn on.

/// The side that small crops are enlarged towards, in pixels.
const SIDE: usize = 224;

/// RGB pixels, and how its patches lie in them.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchPicture {
    width: usize,
    height: usize,
    /// `[H, W, 3]` row-major.
    pixels: Vec<u8>,
    /// Side of a patch in pixels of the picture.
    patch: usize,
}

impl PatchPicture {
    /// The pixels of one normalised crop, a plane `[H * W]` of each of `C` channels in rows of `width`, enlarged by
    /// the whole factor that comes nearest to 224 pixels. `mean` and `std`: those of the normalisation, of each
    /// channel. `patch`: side of a patch in pixels of the crop.
    pub fn of(planes: &[Vec<f32>], width: usize, (mean, std): (&[f32], &[f32]), patch: usize) -> Self {
        let (channels, height) = (planes.len(), planes.first().map_or(0, |plane| plane.len() / width.max(1)));
        let factor = ((SIDE + width / 2) / width.max(1)).max(1);
        let (wide, high) = (width * factor, height * factor);
        let value = |channel: usize, at: usize| {
            // Fewer than three channels: the first one, in grey.
            let c = if channels >= 3 { channel } else { 0 };
            ((planes[c][at] * std[c] + mean[c]) * 255.).round() as u8 // saturates
        };
        let at = |y: usize, x: usize| (y / factor) * width + x / factor;
        let pixels = (0..high).flat_map(|y| (0..wide).map(move |x| (y, x)));
        let pixels = pixels.flat_map(|(y, x)| [0, 1, 2].map(|c| value(c, at(y, x)))).collect();
        Self { width: wide, height: high, pixels, patch: patch * factor }
    }

    /// A thick frame along the inner edge of the patch in row and column `cell`.
    pub fn frame(&mut self, cell: (usize, usize), colour: [u8; 3]) {
        self.ring(cell, colour, 0, (self.patch / 8).max(2));
    }

    /// The thin frame number `number` of a patch, each within the one before: several find room.
    pub fn thin_frame(&mut self, cell: (usize, usize), colour: [u8; 3], number: usize) {
        let line = (self.patch / 20).max(1);
        self.ring(cell, colour, number * line, line);
    }

    /// A frame `line` pixels wide, `inset` pixels within the patch.
    fn ring(&mut self, (row, col): (usize, usize), colour: [u8; 3], inset: usize, line: usize) {
        let side = self.patch;
        let is_within = |v: usize, edge: usize| v >= edge && v + edge < side;
        for y in 0..side {
            for x in 0..side {
                let is_in_all = |edge| is_within(x, edge) && is_within(y, edge);
                if is_in_all(inset) && !is_in_all(inset + line) {
                    let at = ((row * side + y) * self.width + col * side + x) * 3;
                    self.pixels[at..at + 3].copy_from_slice(&colour);
                }
            }
        }
    }

    /// The picture in grey under a map of one value per patch, `cols` to a row: dark the least value,
    /// bright the greatest.
    pub fn heated(&self, map: &[f32], cols: usize) -> Self {
        let (least, most) = map.iter().fold((f32::MAX, f32::MIN), |(l, m), &v| (l.min(v), m.max(v)));
        let range = (most - least).max(f32::MIN_POSITIVE);
        let mut heated = self.clone();
        for (i, pixel) in heated.pixels.chunks_exact_mut(3).enumerate() {
            let (y, x) = (i / self.width, i % self.width);
            let value = (map[(y / self.patch) * cols + x / self.patch] - least) / range;
            let heat = if value > 0. { value } else { 0. }; // not a number: no heat
            let grey = pixel.iter().map(|&v| f32::from(v)).sum::<f32>() / 3. * 0.8;
            let share = 0.25 + 0.45 * heat;
            let colour = warm(heat);
            pixel.iter_mut().zip(colour).for_each(|(v, c)| *v = (grey * (1. - share) + c * share).round() as u8);
        }
        heated
    }

    /// The file's bytes; the reason if it cannot be made.
    pub fn png(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let write = |mut encoder: png::Writer<&mut Vec<u8>>| {
            encoder.write_image_data(&self.pixels)?;
            encoder.finish()
        };
        encoder.write_header().and_then(write).map_err(|e| format!("cannot be encoded: {e}"))?;
        Ok(bytes)
    }
}

/// From black through purple and orange to light yellow, 0 to 255 per channel.
fn warm(heat: f32) -> [f32; 3] {
    const STOPS: [[f32; 3]; 5] =
        [[0., 0., 20.], [90., 20., 110.], [190., 50., 80.], [250., 140., 20.], [255., 250., 170.]];
    let place = heat * (STOPS.len() - 1) as f32;
    let low = (place as usize).min(STOPS.len() - 2);
    let part = place - low as f32;
    [0, 1, 2].map(|c| STOPS[low][c] * (1. - part) + STOPS[low + 1][c] * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crop of 4 x 4 pixels in patches of 2 whose values are its pixel numbers.
    fn crop(channels: usize) -> PatchPicture {
        let plane = |c: usize| (c * 16..c * 16 + 16).map(|i| i as f32 / 255.).collect();
        let planes: Vec<Vec<f32>> = (0..channels).map(plane).collect();
        PatchPicture::of(&planes, 4, (&vec![0.; channels], &vec![1.; channels]), 2)
    }

    fn at(p: &PatchPicture, x: usize, y: usize) -> [u8; 3] {
        let i = (y * p.width + x) * 3;
        [p.pixels[i], p.pixels[i + 1], p.pixels[i + 2]]
    }

    #[test]
    fn crops_are_enlarged_and_their_colours_come_back() {
        let p = crop(3);
        assert_eq!((p.width, p.height, p.patch), (224, 224, 112));
        assert_eq!((at(&p, 55, 0), at(&p, 56, 0), at(&p, 0, 223)), ([0, 16, 32], [1, 17, 33], [12, 28, 44]));
        assert_eq!(at(&crop(1), 56, 0), [1; 3], "grey");
        assert_eq!(at(&crop(2), 56, 0), [1; 3], "the first channel");
        assert_eq!(at(&crop(5), 56, 0), [1, 17, 33], "the first three");
        let large = vec![vec![0.; 448 * 448]; 3];
        let p = PatchPicture::of(&large, 448, (&[2., -2., 0.5], &[1.; 3]), 16);
        assert_eq!((p.width, at(&p, 0, 0)), (448, [255, 0, 128]));
    }

    #[test]
    fn outlines_stay_in_their_patch() {
        let mut p = crop(3);
        let before = p.clone();
        p.frame((1, 0), [9, 8, 7]);
        for (x, y, is_drawn) in
            [(0, 112, true), (111, 223, true), (56, 168, false), (56, 111, false), (112, 150, false)]
        {
            assert_eq!(at(&p, x, y) == [9, 8, 7], is_drawn, "{x} {y}");
        }
        let differing = (0..224 * 224).filter(|i| at(&p, i % 224, i / 224) != at(&before, i % 224, i / 224)).count();
        assert_eq!(differing, 112 * 112 - 84 * 84);
        let mut two = before.clone();
        two.thin_frame((0, 0), [9, 8, 7], 0);
        two.thin_frame((0, 0), [7, 8, 9], 1);
        assert_eq!([0, 4, 5, 9, 10].map(|x| at(&two, x, 50)[0]), [9, 9, 7, 7, at(&before, 10, 50)[0]]);
    }

    #[test]
    fn the_greatest_value_is_the_brightest() {
        let p = crop(3);
        let light = |v: [u8; 3]| v.iter().map(|&v| u32::from(v)).sum::<u32>();
        let heat = p.heated(&[0.1, 0.4, 0.2, 0.15], 2);
        let patches = [(10, 10), (200, 10), (10, 200), (200, 200)].map(|(x, y)| light(at(&heat, x, y)));
        assert!(patches[1] > patches[2] && patches[2] > patches[3] && patches[3] > patches[0], "{patches:?}");
        assert!(p.heated(&[0.; 4], 2) == p.heated(&[f32::NAN; 4], 2), "a flat map has no heat");
    }
}
