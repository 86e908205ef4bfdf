//! Image files to RGB, strictly: a file is decoded whole or not at all.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageReader, Limits};

use crate::jpeg::reaches_its_end;
use crate::{Error, Rgb};

/// Longest side that is decoded; larger claims come from broken or hostile headers.
pub(crate) const MAX_SIDE: u32 = 16_384;
/// Most memory that one decoder may take, in bytes.
const MAX_MEMORY: u64 = 512 << 20;

/// Decodes a JPEG, PNG, WebP, BMP or TIFF file, recognised by its content, as 8-bit RGB.
///
/// Conversions are those of Pillow's `convert("RGB")`: alpha is dropped, palettes and grey
/// are expanded, 16-bit channels keep their high byte (16-bit grey too, where Pillow would
/// clip everything above 255 to white). An EXIF orientation is not applied, as the published
/// training program does not apply it either.
///
/// Refused: empty, truncated and unknown files, and images of more than 16384 pixels on a
/// side or 512 MiB in memory.
pub fn decode(path: impl AsRef<Path>) -> Result<Rgb, Error> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    from_bytes(&bytes).map_err(|reason| Error::decode(path, reason))
}

/// Decodes the contents of an image file, or says why not.
fn from_bytes(bytes: &[u8]) -> Result<Rgb, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    // The decoder fills what is missing from a truncated JPEG with grey.
    if bytes.starts_with(&[0xff, 0xd8]) && !reaches_its_end(bytes) {
        return Err("the JPEG is truncated".into());
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    if reader.format().is_none() {
        return Err("not a JPEG, PNG, WebP, BMP or TIFF file".into());
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    to_rgb(reader.decode().map_err(|e| e.to_string())?)
}

/// Drops alpha, repeats grey, and keeps the high byte of 16-bit channels.
fn to_rgb(image: DynamicImage) -> Result<Rgb, String> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width == 0 || height == 0 {
        return Err("the image has no pixels".into());
    }
    let high = |v: u16| (v >> 8) as u8;
    let pixels = match image {
        DynamicImage::ImageLuma16(i) => i.pixels().flat_map(|p| [high(p[0]); 3]).collect(),
        DynamicImage::ImageLumaA16(i) => i.pixels().flat_map(|p| [high(p[0]); 3]).collect(),
        DynamicImage::ImageRgb16(i) => i.pixels().flat_map(|p| p.0.map(high)).collect(),
        DynamicImage::ImageRgba16(i) => i.pixels().flat_map(|p| [high(p[0]), high(p[1]), high(p[2])]).collect(),
        other => other.into_rgb8().into_raw(),
    };
    Ok(Rgb { width, height, pixels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, ImageFormat, Luma, LumaA, Rgb as Px, Rgba};

    fn encoded(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image.write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    #[test]
    fn alpha_is_dropped_and_grey_repeated() {
        let rgba = ImageBuffer::from_pixel(2, 1, Rgba([10u8, 20, 30, 0]));
        let file = encoded(rgba.into(), ImageFormat::Png);
        assert_eq!(from_bytes(&file).unwrap().pixels, [10, 20, 30, 10, 20, 30]);
        let grey = ImageBuffer::from_pixel(1, 2, LumaA([77u8, 3]));
        let file = encoded(grey.into(), ImageFormat::Png);
        assert_eq!(from_bytes(&file).unwrap().pixels, [77; 6]);
    }

    #[test]
    fn sixteen_bits_keep_their_high_byte() {
        let rgb = ImageBuffer::from_pixel(1, 1, Px([0x12ffu16, 0x3480, 0x0001]));
        let file = encoded(rgb.into(), ImageFormat::Png);
        assert_eq!(from_bytes(&file).unwrap().pixels, [0x12, 0x34, 0]);
        let grey = ImageBuffer::from_pixel(1, 1, Luma([0xabcdu16]));
        let file = encoded(grey.into(), ImageFormat::Tiff);
        assert_eq!(from_bytes(&file).unwrap().pixels, [0xab; 3]);
    }

    #[test]
    fn every_cut_of_every_format_is_an_error_or_the_whole_image() {
        let picture: DynamicImage =
            ImageBuffer::from_fn(33, 21, |x, y| Px([x as u8 * 7, y as u8 * 11, (x * y) as u8])).into();
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
            let file = encoded(picture.clone(), format);
            let whole = from_bytes(&file).unwrap();
            assert_eq!((whole.width, whole.height), (33, 21));
            for cut in (0..file.len()).step_by(13) {
                if let Ok(part) = from_bytes(&file[..cut]) {
                    assert_eq!(part, whole, "{format:?} cut at {cut} of {}", file.len());
                }
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        // A 65500 x 65500 BMP header with no pixels behind it.
        let mut bmp = b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
        bmp.extend(65_500u32.to_le_bytes());
        bmp.extend(65_500u32.to_le_bytes());
        bmp.extend([1, 0, 24, 0]);
        bmp.extend([0; 24]);
        assert!(from_bytes(&bmp).is_err());
    }
}
