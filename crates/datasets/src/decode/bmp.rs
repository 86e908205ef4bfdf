//! BMP files that are read as Pillow does it: those of 16 bits per pixel, whose few bits per colour are spread over a
//! byte, and those whose pixels are run-length coded, in which pixels that the code skips have the first colour.

use image::{DynamicImage, RgbImage};

/// Bits of red, green and blue of a pixel of 16 bits without masks of its own.
const USUAL: [u32; 3] = [0x7c00, 0x03e0, 0x001f];

/// The picture of a BMP file of 16 bits per pixel; `None` if it has another depth. Its header has been read
/// before.
pub(super) fn of_16_bits(
    file: &[u8],
    admit: impl Fn(u64, u64) -> Result<(), String>,
) -> Result<Option<DynamicImage>, String> {
    let short = || "the file is truncated".to_string();
    let word = |at: usize| file.get(at..at + 2).map(|b| u32::from(b[0]) | u32::from(b[1]) << 8).ok_or_else(short);
    let double = |at: usize| Ok::<u32, String>(word(at)? | word(at + 2)? << 16);
    let header = double(14)?;
    if header < 40 || word(28)? != 16 {
        return Ok(None);
    }
    let (width, height) = (double(18)? as i32, double(22)? as i32);
    admit(width.unsigned_abs().into(), height.unsigned_abs().into())?;
    let masks = match double(30)? {
        0 => USUAL,
        // Behind the first 40 bytes of the header, whether they belong to it or follow it.
        3 | 6 => [double(54)?, double(58)?, double(62)?],
        other => return Err(format!("is compressed in a way that is not known ({other})")),
    };
    let colours: Vec<Bits> = masks.iter().map(|&mask| Bits::of(mask)).collect::<Result<_, _>>()?;
    let (columns, rows) = (width.unsigned_abs() as usize, height.unsigned_abs() as usize);
    let stride = (columns * 2).next_multiple_of(4);
    let start = double(10)? as usize;
    let data = file.get(start..).filter(|data| data.len() >= stride.saturating_mul(rows)).ok_or_else(short)?;
    let mut pixels = Vec::with_capacity(columns * rows * 3);
    for y in 0..rows {
        let y = if height < 0 { y } else { rows - 1 - y };
        for pair in data[y * stride..][..columns * 2].as_chunks::<2>().0 {
            let value = u32::from(u16::from_le_bytes(*pair));
            pixels.extend(colours.iter().map(|bits| bits.level(value)));
        }
    }
    Ok(RgbImage::from_raw(columns as u32, rows as u32, pixels).map(DynamicImage::from))
}

/// The picture of a run-length coded BMP file; `None` if it is none. Its header has been read before, and its size
/// admitted.
pub(super) fn of_runs(file: &[u8]) -> Result<Option<DynamicImage>, String> {
    let short = || "the file is truncated".to_string();
    let double = |at: usize| {
        let bytes = file.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or_else(short)?;
        Ok::<usize, String>(u32::from_le_bytes(*bytes) as usize)
    };
    let header = double(14)?;
    let is_coarse = match (header >= 40, file.get(28), file.get(30)) {
        (true, Some(8), Some(1)) => false,
        (true, Some(4), Some(2)) => true,
        _ => return Ok(None),
    };
    let (width, height, start) = (double(18)?, double(22)?, double(10)?);
    let most = if is_coarse { 16 } else { 256 };
    let count = Some(double(46)?).filter(|n| (1..=most).contains(n)).unwrap_or(most);
    let colours = file.get(14 + header..start.max(14 + header)).ok_or_else(short)?.as_chunks::<4>().0.iter();
    let mut palette = vec![[0; 3]; 256];
    colours.take(count).zip(&mut palette).for_each(|([b, g, r, _], to)| *to = [*r, *g, *b]);
    let indices = unrolled(file.get(start..).ok_or_else(short)?, (width, height), is_coarse)?;
    // Rows are stored from the lowest on.
    let rows = indices.chunks_exact(width.max(1)).rev();
    let pixels = rows.flatten().flat_map(|index| palette[usize::from(*index)]).collect();
    Ok(RgbImage::from_raw(width as u32, height as u32, pixels).map(DynamicImage::from))
}

/// The pixels of a run-length code, of 4 bits each where it `is_coarse`. Runs end with their row.
fn unrolled(code: &[u8], (width, height): (usize, usize), is_coarse: bool) -> Result<Vec<u8>, String> {
    let mut pixels = vec![0; width * height];
    let (mut x, mut y, mut code) = (0, 0, code.iter().copied());
    let half = |byte: u8, i: usize| match (is_coarse, i % 2) {
        (false, _) => byte,
        (true, 0) => byte >> 4,
        (true, _) => byte & 15,
    };
    while y < height {
        let Some((first, second)) = code.next().zip(code.next()) else {
            // Some leave the mark of the end away.
            return if y + 1 == height && x == width { Ok(pixels) } else { Err("the file is truncated".into()) };
        };
        match (first, second) {
            (0, 0) => (x, y) = (0, y + 1),
            (0, 1) => break,
            (0, 2) => {
                let (right, up) = code.next().zip(code.next()).ok_or("the file is truncated")?;
                (x, y) = (x + usize::from(right), y + usize::from(up));
                if x > width || y > height {
                    return Err("the file is damaged: its code leads out of the picture".into());
                }
            }
            (0, count) => {
                let count = usize::from(count);
                if count > width - x {
                    return Err("the file is damaged: a row of its code is too long".into());
                }
                let bytes: Vec<u8> = code.by_ref().take(if is_coarse { count.div_ceil(2) } else { count }).collect();
                // Up to an even number of bytes.
                let padding = bytes.len() % 2;
                let byte = |i: usize| bytes.get(if is_coarse { i / 2 } else { i }).copied();
                for i in 0..count {
                    pixels[y * width + x + i] = half(byte(i).ok_or("the file is truncated")?, i);
                }
                code.by_ref().take(padding).for_each(drop);
                x += count;
            }
            (count, byte) => {
                let count = usize::from(count).min(width - x);
                (0..count).for_each(|i| pixels[y * width + x + i] = half(byte, i));
                x += count;
            }
        }
    }
    Ok(pixels)
}

/// Where the bits of a colour are.
struct Bits {
    shift: u32,
    most: u32,
}

impl Bits {
    fn of(mask: u32) -> Result<Self, String> {
        let shift = mask.trailing_zeros().min(31);
        let most = mask >> shift;
        // At most 8 bits, next to each other, within 16.
        if mask == 0 || most > 255 || !(most + 1).is_power_of_two() || mask > 0xffff {
            return Err(format!("has a colour in the bits {mask:#x} of 16, which cannot be read"));
        }
        Ok(Self { shift, most })
    }

    /// The part that the channel has of a pixel, of 255, rounded down.
    fn level(&self, pixel: u32) -> u8 {
        (((pixel >> self.shift) & self.most) * 255 / self.most) as u8
    }
}

#[cfg(test)]
mod tests {
    use crate::{Decoding, Samples};

    /// Two pixels of 16 bits, and masks if any.
    fn read(pixels: [u16; 2], compression: u32, masks: &[u32]) -> Result<Vec<u8>, String> {
        let start = 54 + 4 * masks.len() as u32;
        let mut file = b"BM".to_vec();
        file.extend([start + 4, 0, start, 40, 2, 1].iter().flat_map(|v: &u32| v.to_le_bytes()));
        file.extend([1, 0, 16, 0]);
        file.extend([compression, 4, 0, 0, 0, 0].iter().flat_map(|v| v.to_le_bytes()));
        file.extend(masks.iter().flat_map(|v| v.to_le_bytes()));
        file.extend(pixels.iter().flat_map(|v| v.to_le_bytes()));
        match Decoding::default().image(&file)?.samples {
            Samples::Bytes(pixels) => Ok(pixels),
            Samples::Floats(_) => Err("floats".into()),
        }
    }

    /// A BMP file of 5 x 3 pixels of a run-length code, whose colours are grey, twice their number and 100.
    fn runs(bits: u8, code: &[u8]) -> Result<Vec<u8>, String> {
        let count = 1u32 << bits;
        let start = 54 + 4 * count;
        let mut file = b"BM".to_vec();
        file.extend([start + code.len() as u32, 0, start, 40, 5, 3].iter().flat_map(|v: &u32| v.to_le_bytes()));
        file.extend([1, 0, bits, 0]);
        let compression = if bits == 8 { 1 } else { 2 };
        file.extend([compression, code.len() as u32, 0, 0, 0, 0].iter().flat_map(|v| v.to_le_bytes()));
        file.extend((0..count).flat_map(|i| [100 + 2 * i.min(70) as u8; 4]));
        file.extend(code);
        let Samples::Bytes(pixels) = Decoding::default().image(&file)?.samples else { return Err("floats".into()) };
        Ok(pixels.into_iter().step_by(3).collect())
    }

    #[test]
    fn pixels_that_a_code_skips_have_the_first_colour() {
        // From the lowest row on: a short one; two pixels behind a step of (1, 1); the end.
        let short = runs(8, &[2, 7, 0, 0, 1, 9, 0, 2, 1, 1, 2, 5, 0, 1]).unwrap();
        assert_eq!(short, [100, 100, 110, 110, 100, 118, 100, 100, 100, 100, 114, 114, 100, 100, 100]);
        // An odd number of pixels one by one, then a run of two colours in turn, longer than its row.
        let row = [0, 3, 0x12, 0x30, 8, 0x45, 0, 0];
        let coarse = runs(4, &[&row[..], &row, &row].concat()).unwrap();
        assert_eq!(coarse, [102, 104, 106, 108, 110].repeat(3));
        let row = [0, 3, 1, 2, 3, 0, 2, 4, 0, 0];
        let fine = runs(8, &[&row[..], &row, &row[..8]].concat()).unwrap();
        assert_eq!(fine, [102, 104, 106, 108, 108].repeat(3));
        assert!(runs(8, &[2, 7, 0, 0]).unwrap_err().contains("truncated"));
        assert!(runs(8, &[0, 6, 1, 2, 3, 4, 5, 6]).unwrap_err().contains("too long"));
        assert!(runs(8, &[0, 2, 6, 0]).unwrap_err().contains("out of the picture"));
    }

    #[test]
    fn few_bits_are_spread_as_pillow_does() {
        // Of 31 and 63, rounded down: 3 is 24 and not 25, 21 of 63 is 85.
        let of_555 = [24, 255, 0, 8, 16, 172];
        assert_eq!(read([3 << 10 | 31 << 5, 1 << 10 | 2 << 5 | 21], 0, &[]).unwrap(), of_555);
        let masks = [0x7c00, 0x3e0, 0x1f];
        assert_eq!(read([3 << 10 | 31 << 5, 1 << 10 | 2 << 5 | 21], 3, &masks).unwrap(), of_555);
        let of_565 = read([3 << 11 | 21 << 5 | 31, 62 << 5], 3, &[0xf800, 0x7e0, 0x1f]).unwrap();
        assert_eq!(of_565, [24, 85, 255, 0, 250, 0]);
        assert_eq!(read([0x0f81, 0], 3, &[0xf00, 0xf0, 0xf]).unwrap(), [255, 136, 17, 0, 0, 0]);
        assert!(read([0, 0], 3, &[0xf0f0, 0xf, 0xf00]).is_err());
    }
}
