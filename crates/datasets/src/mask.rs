//! Object masks as PNG files whose palette indices are the object ids.

use std::fs;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::{Path, PathBuf};
use std::process;

use png::{BitDepth, ColorType, Decoder, Encoder, Limits, Reader, Transformations};

use crate::file::{contents, opened};
use crate::{Error, Mask};

/// Longest side that is decoded; larger claims come from broken or hostile headers.
const MAX_SIDE: u32 = 16_384;

/// Most pixels that are decoded: 8192 x 8192.
const MAX_PIXELS: u64 = 1 << 26;

/// Reads a mask whose values are ids. Accepted PNG files:
///
/// * indexed ones (1, 2, 4 or 8 bits): the indices are the ids;
/// * grey ones of 8 or 16 bits, or of 1: the values are the ids, none of them above 255;
/// * RGB or RGBA ones of 8 bits, if all pixels are opaque and have colours of PASCAL VOC, which is also
///   the palette of DAVIS: those stand for their ids. Any other colour is refused and named.
///
/// Ids are returned as stored, the conventional 255 for "undecided" included: at most 254 objects.
///
/// # Errors
/// [`Error::Io`] and [`Error::Decode`], with the path.
pub fn decode_mask(path: impl AsRef<Path>) -> Result<Mask, Error> {
    read(path.as_ref(), ids_of)
}

/// Reads a mask of a single object: id 1 wherever a PNG file of any kind has another value (index,
/// grey value, colour) than 0.
///
/// # Errors
/// As [`decode_mask`].
pub fn decode_binary_mask(path: impl AsRef<Path>) -> Result<Mask, Error> {
    read(path.as_ref(), |colour, _| {
        let alpha = matches!(colour, ColorType::GrayscaleAlpha | ColorType::Rgba);
        Ok(Box::new(move |values| {
            let shown = &values[..values.len() - usize::from(alpha)];
            Ok(u8::from(shown.iter().any(|&v| v != 0)))
        }))
    })
}

/// The palette of a mask, three bytes per colour in the order of the ids; `None` for files that are not
/// indexed. Only the beginning of the file is read.
///
/// # Errors
/// As [`decode_mask`].
pub fn mask_palette(path: impl AsRef<Path>) -> Result<Option<Vec<u8>>, Error> {
    let path = path.as_ref();
    let file = opened(path)?;
    let reader = header(BufReader::new(file)).map_err(|reason| Error::decode(path, reason))?;
    let info = reader.info();
    let indexed = info.color_type == ColorType::Indexed;
    Ok(info.palette.as_ref().filter(|_| indexed).map(|palette| palette.to_vec()))
}

/// The id of a pixel from its values, one per channel, or why it has none.
type Id = Box<dyn Fn(&[u16]) -> Result<u8, String>>;

/// How pixels of a kind of file become ids.
fn ids_of(colour: ColorType, depth: BitDepth) -> Result<Id, String> {
    match (colour, depth) {
        (ColorType::Indexed, _) | (ColorType::Grayscale, BitDepth::One | BitDepth::Eight | BitDepth::Sixteen) => {
            Ok(Box::new(|values| {
                let id = values[0]; // one channel
                let many = |_| format!("has the id {id}; masks hold at most 254 objects, and 255 for undecided");
                u8::try_from(id).map_err(many)
            }))
        }
        (ColorType::Rgb | ColorType::Rgba, BitDepth::Eight) => Ok(Box::new(|values| {
            let unknown = || format!("has the colour {values:?}, which is no id in the palette of DAVIS (PASCAL VOC)");
            let opaque = values.get(3).is_none_or(|&alpha| alpha == 255);
            voc_id(&values[..3]).filter(|_| opaque).ok_or_else(unknown)
        })),
        (colour, depth) => Err(format!(
            "a mask must be an indexed PNG, a grey one of 1, 8 or 16 bits, or one of 8 bits in the colours of DAVIS; \
             this one is {colour:?} with {} bits",
            depth as u8
        )),
    }
}

fn read(path: &Path, id: impl FnOnce(ColorType, BitDepth) -> Result<Id, String>) -> Result<Mask, Error> {
    let bytes = contents(path)?;
    from_bytes(&bytes, id).map_err(|reason| Error::decode(path, reason))
}

fn unreadable(e: png::DecodingError) -> String {
    format!("not a readable PNG mask: {e}")
}

/// A reader of stored values, behind the header.
fn header<R: BufRead + Seek>(source: R) -> Result<Reader<R>, String> {
    let mut decoder = Decoder::new_with_limits(source, Limits { bytes: 512 << 20 });
    decoder.set_transformations(Transformations::IDENTITY);
    let reader = decoder.read_info().map_err(unreadable)?;
    let (width, height) = reader.info().size();
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(format!("{width} x {height} is larger than {MAX_SIDE} pixels on a side"));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("{width} x {height} is more than {MAX_PIXELS} pixels"));
    }
    Ok(reader)
}

/// Decodes the contents of a mask file, or says why not.
fn from_bytes(bytes: &[u8], id: impl FnOnce(ColorType, BitDepth) -> Result<Id, String>) -> Result<Mask, String> {
    let mut reader = header(Cursor::new(bytes))?;
    let info = reader.info();
    let (width, height) = (info.width as usize, info.height as usize);
    let (colour, depth) = (info.color_type, info.bit_depth);
    let id = id(colour, depth)?;
    let length = reader.output_buffer_size().ok_or("too large")?;
    let mut packed = vec![0; length];
    let frame = reader.next_frame(&mut packed).map_err(unreadable)?;
    reader.finish().map_err(unreadable)?;
    let mut ids = Vec::with_capacity(width * height);
    let mut values = Vec::new();
    for row in packed.chunks_exact(frame.line_size.max(1)).take(height) {
        values.clear();
        unpack(row, depth, &mut values);
        // The last byte of a row may be padded.
        for pixel in values.chunks_exact(colour.samples()).take(width) {
            ids.push(id(pixel)?);
        }
    }
    Ok(Mask { width, height, ids })
}

/// Appends the values of a row, from the highest bits of its first byte on.
fn unpack(row: &[u8], depth: BitDepth, values: &mut Vec<u16>) {
    match depth as u8 {
        16 => values.extend(row.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))),
        bits => values.extend(row.iter().flat_map(|&byte| {
            (0..8 / bits).map(move |i| u16::from(byte >> (8 - bits * (i + 1)) & (0xff >> (8 - bits))))
        })),
    }
}

/// Writes `mask` as an 8-bit indexed PNG in the colours of DAVIS and PASCAL VOC.
///
/// # Errors
/// As [`write_mask_with`].
pub fn write_mask(path: impl AsRef<Path>, mask: &Mask) -> Result<(), Error> {
    write_mask_with(path, mask, None)
}

/// Writes `mask` as an 8-bit indexed PNG with the colours `palette`, three bytes each; `None` stands for
/// those of PASCAL VOC, which also colour the ids that `palette` does not reach.
///
/// The file appears as a whole or not at all.
///
/// # Errors
/// [`Error::Io`] and [`Error::Encode`], with the path: a disk that is full, a mask whose number of ids does
/// not fit its sides, a palette that is not 0 to 256 colours.
pub fn write_mask_with(path: impl AsRef<Path>, mask: &Mask, palette: Option<&[u8]>) -> Result<(), Error> {
    let path = path.as_ref();
    let bytes = encoded(mask, palette).map_err(|reason| Error::encode(path, reason))?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".partial-{}", process::id()));
    let partial = PathBuf::from(partial);
    let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&partial);
    }
    written.map_err(|e| Error::io(path, e))
}

/// The contents of a mask file, or why there are none.
fn encoded(mask: &Mask, palette: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let (Ok(width), Ok(height)) = (u32::try_from(mask.width), u32::try_from(mask.height)) else {
        return Err("the mask is too large for a PNG".into());
    };
    if mask.width.checked_mul(mask.height) != Some(mask.ids.len()) {
        let (w, h, n) = (mask.width, mask.height, mask.ids.len());
        return Err(format!("a {w} x {h} mask cannot have {n} ids"));
    }
    let voc = voc_palette();
    let mut colours = palette.unwrap_or(&voc).to_vec();
    if !colours.len().is_multiple_of(3) || colours.len() > voc.len() {
        return Err(format!("a palette of {} bytes is not 0 to 256 colours of 3 bytes", colours.len()));
    }
    let needed = 3 * (mask.ids.iter().max().map_or(0, |&id| usize::from(id)) + 1);
    if colours.len() < needed {
        colours.extend(&voc[colours.len()..needed]);
    }
    let failed = |e: png::EncodingError| e.to_string();
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_palette(colours);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&mask.ids).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// The colour of `id` in PASCAL VOC: its bits, three at a time from the lowest, become the bits of red,
/// green and blue from the highest.
fn voc_colour(id: u8) -> [u8; 3] {
    [0, 1, 2].map(|channel| {
        let bit = |k: u8| u8::from(k + channel < 8 && id >> (k + channel) & 1 == 1);
        bit(0) << 7 | bit(3) << 6 | bit(6) << 5
    })
}

/// All 256 colours of PASCAL VOC.
fn voc_palette() -> Vec<u8> {
    (0..=255).flat_map(voc_colour).collect()
}

/// The id of a colour of PASCAL VOC.
fn voc_id(colour: &[u16]) -> Option<u8> {
    // Bit k of an id is in channel k % 3; the ninth, which blue would have room for, does not exist.
    let id = (0..8).fold(0, |id, k| id | u8::from(colour[k % 3] >> (7 - k / 3) & 1 == 1) << k);
    (voc_colour(id).map(u16::from) == *colour).then_some(id)
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
            let mask = from_bytes(&file(ColorType::Indexed, depth, 3, &[row, row]), ids_of).unwrap();
            assert_eq!((mask.width, mask.height), (3, 2));
            assert_eq!(mask.ids, [ids.clone(), ids].concat(), "{depth:?}");
        }
    }

    #[test]
    fn other_kinds_are_ids_or_refused_or_one_object() {
        let ids = |bytes: &[u8]| from_bytes(bytes, ids_of).map(|mask| mask.ids);
        let bits = file(ColorType::Grayscale, BitDepth::One, 9, &[&[0x80, 0x80]]);
        assert_eq!(ids(&bits).unwrap(), [1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(ids(&file(ColorType::Grayscale, BitDepth::Eight, 2, &[&[3, 4]])).unwrap(), [3, 4]);
        // Programs disagree on whether these are 0 to 3 or 0 to 255.
        assert!(ids(&file(ColorType::Grayscale, BitDepth::Two, 1, &[&[0x40]])).unwrap_err().contains("2 bits"));
        let alpha = file(ColorType::GrayscaleAlpha, BitDepth::Eight, 2, &[&[0, 255, 9, 255]]);
        assert!(ids(&alpha).unwrap_err().contains("GrayscaleAlpha"));
        assert!(ids(b"\xff\xd8\xff").unwrap_err().contains("PNG"));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        let grey16 = file(ColorType::Grayscale, BitDepth::Sixteen, 2, &[&[0, 0, 1, 0]]);
        for bytes in [alpha, grey16] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(decode_binary_mask(&path).unwrap().ids, [0, 1]);
        }
    }

    #[test]
    fn claims_of_many_pixels_are_refused_before_they_take_memory() {
        let mut bytes = file(ColorType::Grayscale, BitDepth::Eight, 2, &[&[3, 4]]);
        bytes[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]);
        let crc = png_crc(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = from_bytes(&bytes, ids_of).unwrap_err();
        assert!(error.contains("16384 x 16384 is more than"), "{error}");
    }

    fn png_crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    }

    #[test]
    fn the_first_colours_are_those_of_pascal_voc() {
        let expected = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128];
        assert_eq!(voc_palette()[..15], expected);
        assert_eq!(voc_palette()[255 * 3..], [224, 224, 192]);
    }

    #[test]
    fn sides_and_ids_must_fit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        for (width, height, ids) in [(16, 16, 3), (0, 0, 0), (usize::MAX, 2, 0), (1 << 40, 0, 0)] {
            let error = write_mask(&path, &Mask { width, height, ids: vec![0; ids] }).unwrap_err();
            assert!(matches!(error, Error::Encode { .. }), "{error}");
        }
        assert!(!path.exists());
    }
}
