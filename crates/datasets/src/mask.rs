//! Object masks as PNG files whose palette indices are the object ids.

use std::fs::{self, File};
use std::io::{BufWriter, Cursor, Write};
use std::path::Path;

use png::{BitDepth, ColorType, Decoder, Encoder, Limits, Transformations};

use crate::{Error, Mask};

/// Longest side that is decoded; larger claims come from broken or hostile headers.
const MAX_SIDE: u32 = 16_384;

/// Reads a mask from an indexed PNG (1, 2, 4 or 8 bits: the indices are the ids) or an 8-bit
/// greyscale PNG (the values are the ids). Colour images are refused: their ids are unknown.
///
/// Ids are returned as stored, the conventional 255 for "undecided" included.
pub fn decode_mask(path: impl AsRef<Path>) -> Result<Mask, Error> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    from_bytes(&bytes).map_err(|reason| Error::decode(path, reason))
}

/// Decodes the contents of a mask file, or says why not.
fn from_bytes(bytes: &[u8]) -> Result<Mask, String> {
    let text = |e: png::DecodingError| format!("not a readable PNG mask: {e}");
    let limits = Limits { bytes: 512 << 20 };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(text)?;
    let info = reader.info();
    let (width, height) = (info.width, info.height);
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(format!("{width} x {height} is larger than {MAX_SIDE} pixels on a side"));
    }
    let bits = match (info.color_type, info.bit_depth) {
        (ColorType::Indexed, depth) => depth as usize, // the discriminants are the bit counts
        (ColorType::Grayscale, BitDepth::Eight) => 8,
        (colour, depth) => {
            return Err(format!(
                "a mask must be an indexed or 8-bit greyscale PNG, this one is {colour:?} with \
                 {} bits",
                depth as u8
            ));
        }
    };
    let length = reader.output_buffer_size().ok_or("too large")?;
    let mut packed = vec![0; length];
    let frame = reader.next_frame(&mut packed).map_err(text)?;
    reader.finish().map_err(text)?;
    let width = width as usize;
    let height = height as usize;
    let mut ids = Vec::with_capacity(width * height);
    for row in packed.chunks_exact(frame.line_size.max(1)).take(height) {
        let per_byte = 8 / bits;
        ids.extend((0..width).map(|x| {
            let byte = row.get(x / per_byte).copied().unwrap_or(0);
            let shift = 8 - bits * (x % per_byte + 1);
            (byte >> shift) & (0xff >> (8 - bits))
        }));
    }
    Ok(Mask { width, height, ids })
}

/// Writes `mask` as an 8-bit indexed PNG in the colours of DAVIS and PASCAL VOC.
pub fn write_mask(path: impl AsRef<Path>, mask: &Mask) -> Result<(), Error> {
    let path = path.as_ref();
    let (Ok(width), Ok(height)) = (u32::try_from(mask.width), u32::try_from(mask.height)) else {
        return Err(Error::encode(path, "the mask is too large for a PNG"));
    };
    if mask.width.checked_mul(mask.height) != Some(mask.ids.len()) {
        let (w, h, n) = (mask.width, mask.height, mask.ids.len());
        return Err(Error::encode(path, format!("a {w} x {h} mask cannot have {n} ids")));
    }
    let mut file = BufWriter::new(File::create(path).map_err(|e| Error::io(path, e))?);
    let failed = |e: png::EncodingError| match e {
        png::EncodingError::IoError(e) => Error::io(path, e),
        other => Error::encode(path, other),
    };
    let mut encoder = Encoder::new(&mut file, width, height);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_palette(palette());
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&mask.ids).map_err(failed)?;
    writer.finish().map_err(failed)?;
    file.flush().map_err(|e| Error::io(path, e))
}

/// The 256 colours of PASCAL VOC: the bits of an id, three at a time from the lowest, become
/// the bits of red, green and blue from the highest.
fn palette() -> Vec<u8> {
    let channel = |id: u8, offset: u8| {
        let bit = |k: u8| u8::from(k + offset < 8 && id >> (k + offset) & 1 == 1);
        bit(0) << 7 | bit(3) << 6 | bit(6) << 5
    };
    (0..=255).flat_map(|id| [0, 1, 2].map(|offset| channel(id, offset))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mask PNG of any colour type and depth, from packed rows.
    fn file(colour: ColorType, depth: BitDepth, width: u32, rows: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out, width, rows.len() as u32);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == ColorType::Indexed {
            encoder.set_palette(vec![9; 3 * (1 << depth as usize)]);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&rows.concat()).unwrap();
        writer.finish().unwrap();
        out
    }

    #[test]
    fn indices_of_every_depth_are_ids() {
        for (depth, row, ids) in [
            (BitDepth::One, &[0b1010_0000][..], vec![1, 0, 1]),
            (BitDepth::Two, &[0b1101_1000][..], vec![3, 1, 2]),
            (BitDepth::Four, &[0xf2, 0x70][..], vec![15, 2, 7]),
            (BitDepth::Eight, &[200, 0, 255][..], vec![200, 0, 255]),
        ] {
            let mask = from_bytes(&file(ColorType::Indexed, depth, 3, &[row, row])).unwrap();
            assert_eq!((mask.width, mask.height), (3, 2));
            assert_eq!(mask.ids, [ids.clone(), ids].concat(), "{depth:?}");
        }
    }

    #[test]
    fn grey_values_are_ids_and_colours_are_refused() {
        let grey = file(ColorType::Grayscale, BitDepth::Eight, 2, &[&[3, 4]]);
        assert_eq!(from_bytes(&grey).unwrap().ids, [3, 4]);
        let rgb = file(ColorType::Rgb, BitDepth::Eight, 1, &[&[1, 2, 3]]);
        assert!(from_bytes(&rgb).unwrap_err().contains("Rgb"));
        assert!(from_bytes(b"\xff\xd8\xff").unwrap_err().contains("PNG"));
    }

    #[test]
    fn the_first_colours_are_those_of_pascal_voc() {
        let expected = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128];
        assert_eq!(palette()[..15], expected);
        assert_eq!(palette()[255 * 3..], [224, 224, 192]);
    }

    #[test]
    fn a_written_mask_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        let mask = Mask { width: 16, height: 16, ids: (0..=255).collect() };
        write_mask(&path, &mask).unwrap();
        assert_eq!(decode_mask(&path).unwrap(), mask);
        let broken = Mask { ids: vec![0; 3], ..mask };
        assert!(write_mask(&path, &broken).is_err());
    }
}
