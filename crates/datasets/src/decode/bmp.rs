//! BMP files of 16 bits per pixel, whose few bits per colour are spread over a byte as Pillow does it.

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

    /// Its part of a pixel, of 255, rounded down.
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
