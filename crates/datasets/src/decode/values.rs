//! Files whose values are used as they are: other numbers of channels than three, and other depths than
//! eight bits.

use super::Decoding;
use crate::{Image, Samples};
use image::DynamicImage;
use image::metadata::Orientation;
use std::io::Cursor;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

/// Values as a file holds them.
enum Stored {
    Bytes(Vec<u8>),
    /// Everything else, exact up to 24 bits.
    Wide(Vec<f32>),
}

/// The values of a decoded picture.
pub(super) fn from(image: DynamicImage, want: &Decoding) -> Result<Image, String> {
    let shape = (image.width() as usize, image.height() as usize, usize::from(image.color().channel_count()));
    let wide = |v: &[u16]| v.iter().map(|&v| f32::from(v)).collect();
    let stored = match image {
        DynamicImage::ImageLuma16(i) => Stored::Wide(wide(&i)),
        DynamicImage::ImageLumaA16(i) => Stored::Wide(wide(&i)),
        DynamicImage::ImageRgb16(i) => Stored::Wide(wide(&i)),
        DynamicImage::ImageRgba16(i) => Stored::Wide(wide(&i)),
        DynamicImage::ImageRgb32F(i) => Stored::Wide(i.into_raw()),
        DynamicImage::ImageRgba32F(i) => Stored::Wide(i.into_raw()),
        other => Stored::Bytes(other.into_bytes()),
    };
    used(shape, stored, want)
}

/// The values of bytes that are already interleaved.
pub(super) fn from_bytes(shape: (usize, usize, usize), bytes: Vec<u8>, want: &Decoding) -> Result<Image, String> {
    used(shape, Stored::Bytes(bytes), want)
}

/// Any TIFF, also of many bands, or of one band on each of its first pages.
pub(super) fn tiff(bytes: &[u8], want: &Decoding) -> Result<(Image, Orientation), String> {
    let mut file = Pages::open(bytes, want)?;
    let (mut shape, mut stored) = file.page(want)?;
    if shape.2 == 1 && want.channels > 1 {
        let mut pages = vec![stored];
        while pages.len() < want.channels && file.decoder.more_images() {
            file.decoder.next_image().map_err(say)?;
            let (next, page) = file.page(want)?;
            if next != shape {
                return Err("has pages of different sizes, which cannot be its channels".into());
            }
            pages.push(page);
        }
        shape.2 = pages.len();
        stored = stacked(pages, shape)?;
    }
    Ok((used(shape, stored, want)?, file.orientation))
}

/// A TIFF of one channel, or one and alpha, as RGB: what the usual decoder leaves out.
pub(super) fn grey_tiff(bytes: &[u8], want: &Decoding) -> Result<(Image, Orientation), String> {
    let mut file = Pages::open(bytes, want)?;
    let ((width, height, channels), stored) = file.page(want)?;
    if channels > 2 {
        return Err(format!("cannot be read as RGB, it has {channels} channels (data.channels)"));
    }
    let grey: Vec<u8> = match stored {
        Stored::Bytes(v) => v,
        // As Pillow: cut off, not scaled.
        Stored::Wide(v) => v.into_iter().map(|v| v.clamp(0., 255.) as u8).collect(),
    };
    let pixels = grey.iter().step_by(channels).flat_map(|&v| [v; 3]).collect();
    Ok((Image { width, height, channels: 3, samples: Samples::Bytes(pixels) }, file.orientation))
}

fn say(e: tiff::TiffError) -> String {
    e.to_string()
}

/// A TIFF at one of its pages.
struct Pages<'a> {
    decoder: Decoder<Cursor<&'a [u8]>>,
    orientation: Orientation,
}

impl<'a> Pages<'a> {
    fn open(bytes: &'a [u8], want: &Decoding) -> Result<Self, String> {
        let mut limits = Limits::default();
        let most = usize::try_from(want.max_pixels).unwrap_or(usize::MAX).saturating_mul(want.channels.max(1));
        limits.decoding_buffer_size = most.saturating_mul(8);
        let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(say)?.with_limits(limits);
        let orientation = decoder.find_tag_unsigned::<u8>(Tag::Orientation).ok().flatten();
        let orientation = orientation.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms);
        Ok(Self { decoder, orientation })
    }

    /// Columns, rows and channels of this page, and its values, channels interleaved.
    fn page(&mut self, want: &Decoding) -> Result<((usize, usize, usize), Stored), String> {
        let decoder = &mut self.decoder;
        let (width, height) = decoder.dimensions().map_err(say)?;
        want.admit(width.into(), height.into())?;
        let mut number = |tag| decoder.find_tag_unsigned::<u32>(tag).map_err(say);
        let samples = number(Tag::SamplesPerPixel)?.unwrap_or(1) as usize;
        let planar = samples > 1 && number(Tag::PlanarConfiguration)? == Some(2);
        if planar && number(Tag::TileWidth)?.is_some() {
            return Err("has tiles of separate planes, which cannot be read; store its bands pixel by pixel".into());
        }
        if number(Tag::PhotometricInterpretation)? == Some(2) && samples > 4 {
            return Err("is RGB with further channels, which cannot be read; store it as MINISBLACK".into());
        }
        let shape = (width as usize, height as usize, samples);
        let mut result = DecodingResult::U8(Vec::new());
        decoder.read_image_to_buffer(&mut result).map_err(say)?;
        let stored = match result {
            DecodingResult::U8(v) => Stored::Bytes(v),
            DecodingResult::U16(v) => Stored::Wide(v.into_iter().map(f32::from).collect()),
            DecodingResult::U32(v) => Stored::Wide(v.into_iter().map(|v| v as f32).collect()),
            DecodingResult::U64(v) => Stored::Wide(v.into_iter().map(|v| v as f32).collect()),
            DecodingResult::I8(v) => Stored::Wide(v.into_iter().map(f32::from).collect()),
            DecodingResult::I16(v) => Stored::Wide(v.into_iter().map(f32::from).collect()),
            DecodingResult::I32(v) => Stored::Wide(v.into_iter().map(|v| v as f32).collect()),
            DecodingResult::I64(v) => Stored::Wide(v.into_iter().map(|v| v as f32).collect()),
            DecodingResult::F16(v) => Stored::Wide(v.into_iter().map(f32::from).collect()),
            DecodingResult::F32(v) => Stored::Wide(v),
            DecodingResult::F64(v) => Stored::Wide(v.into_iter().map(|v| v as f32).collect()),
        };
        let stored = match stored {
            Stored::Bytes(v) if planar => Stored::Bytes(interleaved(&v, shape)?),
            Stored::Wide(v) if planar => Stored::Wide(interleaved(&v, shape)?),
            stored => stored,
        };
        Ok((shape, stored))
    }
}

/// Pages of one channel as the channels of one image.
fn stacked(pages: Vec<Stored>, shape: (usize, usize, usize)) -> Result<Stored, String> {
    if pages.iter().all(|p| matches!(p, Stored::Bytes(_))) {
        let planes = pages.into_iter().flat_map(|p| if let Stored::Bytes(v) = p { v } else { Vec::new() });
        return Ok(Stored::Bytes(interleaved(&planes.collect::<Vec<_>>(), shape)?));
    }
    let planes = pages.into_iter().flat_map(|p| match p {
        Stored::Bytes(v) => v.into_iter().map(f32::from).collect(),
        Stored::Wide(v) => v,
    });
    Ok(Stored::Wide(interleaved(&planes.collect::<Vec<_>>(), shape)?))
}

/// `[C, H, W]` to `[H, W, C]`.
fn interleaved<T: Copy>(planes: &[T], (width, height, channels): (usize, usize, usize)) -> Result<Vec<T>, String> {
    let area = width * height;
    if planes.len() != area * channels {
        return Err(format!("{} values for {channels} planes of {width} x {height}", planes.len()));
    }
    Ok((0..area).flat_map(|i| (0..channels).map(move |c| planes[c * area + i])).collect())
}

fn expect(channels: usize, want: &Decoding) -> Result<(), String> {
    if channels != want.channels {
        return Err(format!("has {channels} channels, not {} (data.channels)", want.channels));
    }
    Ok(())
}

/// Checks the shape and scales the values.
fn used((width, height, channels): (usize, usize, usize), stored: Stored, want: &Decoding) -> Result<Image, String> {
    expect(channels, want)?;
    let samples = match (stored, want.range) {
        (Stored::Bytes(v), None) => Samples::Bytes(v),
        (Stored::Wide(_), None) => {
            return Err("holds values of more than 8 bits; say with data.range which of them become 0 and 1".into());
        }
        (Stored::Bytes(v), Some(range)) => Samples::Floats(v.into_iter().map(|v| scale(f32::from(v), range)).collect()),
        (Stored::Wide(v), Some(range)) => {
            if v.iter().any(|v| !v.is_finite()) {
                return Err("holds values that are not finite numbers".into());
            }
            Samples::Floats(v.into_iter().map(|v| scale(v, range)).collect())
        }
    };
    Ok(Image { width, height, channels, samples })
}

fn scale(value: f32, [low, high]: [f32; 2]) -> f32 {
    ((value - low) / (high - low)).clamp(0., 1.)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiff::encoder::{TiffEncoder, colortype};

    fn want(channels: usize, range: Option<[f32; 2]>) -> Decoding {
        Decoding { channels, range, ..Decoding::default() }
    }

    /// A TIFF of any number of 16-bit bands, written by hand: one strip, or one per band.
    fn bands(width: u16, height: u16, count: u16, planar: bool, value: impl Fn(usize) -> u16) -> Vec<u8> {
        let total = usize::from(width) * usize::from(height) * usize::from(count);
        let data: Vec<u8> = (0..total).flat_map(|i| value(i).to_le_bytes()).collect();
        let mut file = b"II\x2a\0".to_vec();
        let (strips, strip) = if planar { (count, data.len() / usize::from(count)) } else { (1, data.len()) };
        let list = 8 + data.len(); // bits per sample, strip offsets, strip lengths
        let lists = usize::from(count) * 2 + usize::from(strips) * 8;
        file.extend(((list + lists) as u32).to_le_bytes());
        file.extend(&data);
        (0..count).for_each(|_| file.extend(16u16.to_le_bytes()));
        (0..usize::from(strips)).for_each(|i| file.extend((8 + (i * strip) as u32).to_le_bytes()));
        (0..strips).for_each(|_| file.extend((strip as u32).to_le_bytes()));
        let offsets = list + usize::from(count) * 2;
        let counts = offsets + usize::from(strips) * 4;
        let at = |n: u16, place: usize, only: usize| if n == 1 { only as u32 } else { place as u32 };
        let entries: [(u16, u16, u32, u32); 9] = [
            (256, 3, 1, width.into()),
            (257, 3, 1, height.into()),
            (258, 3, count.into(), list as u32),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (273, 4, strips.into(), at(strips, offsets, 8)),
            (277, 3, 1, count.into()),
            (279, 4, strips.into(), at(strips, counts, strip)),
            (284, 3, 1, if planar { 2 } else { 1 }),
        ];
        file.extend((entries.len() as u16).to_le_bytes());
        for (tag, kind, count, value) in entries {
            file.extend(tag.to_le_bytes());
            file.extend(kind.to_le_bytes());
            file.extend(count.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        file.extend([0; 4]);
        file
    }

    #[test]
    fn many_bands_are_read_in_both_orders() {
        let interleaved = bands(4, 3, 6, false, |i| 1000 + i as u16);
        let planar = bands(4, 3, 6, true, |i| 1000 + (i % 12 * 6 + i / 12) as u16);
        let want = want(6, Some([1000., 1100.]));
        let (image, _) = tiff(&interleaved, &want).unwrap();
        assert_eq!((image.width, image.height, image.channels), (4, 3, 6));
        let expected: Vec<f32> = (0..72).map(|i| i as f32 / 100.).collect();
        let Samples::Floats(values) = &image.samples else { panic!() };
        assert!(values.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{values:?}");
        assert_eq!(tiff(&planar, &want).unwrap().0, image);
    }

    #[test]
    fn pages_of_one_channel_are_channels() {
        let mut file = std::io::Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file).unwrap();
        for page in 0..3u16 {
            let values: Vec<u16> = (0..6).map(|i| page * 100 + i).collect();
            encoder.write_image::<colortype::Gray16>(3, 2, &values).unwrap();
        }
        let (image, _) = tiff(file.get_ref(), &want(3, Some([0., 1000.]))).unwrap();
        assert_eq!((image.width, image.height, image.channels), (3, 2, 3));
        let Samples::Floats(values) = &image.samples else { panic!() };
        assert!((0..18).all(|i| (values[i] * 1000. - (i % 3 * 100 + i / 3) as f32).abs() < 1e-3), "{values:?}");
        // The first page alone, and more than there are.
        assert_eq!(tiff(file.get_ref(), &want(1, Some([0., 1000.]))).unwrap().0.channels, 1);
        assert!(tiff(file.get_ref(), &want(4, Some([0., 1000.]))).unwrap_err().contains("has 3 channels, not 4"));
    }

    #[test]
    fn floats_and_integers_become_rgb_as_pillow_cuts_them() {
        let mut file = std::io::Cursor::new(Vec::new());
        TiffEncoder::new(&mut file)
            .unwrap()
            .write_image::<colortype::Gray32Float>(2, 2, &[-3.5, 7.9, 255.5, 1e9])
            .unwrap();
        let image = Decoding::default().image(file.get_ref()).unwrap();
        let values: Vec<u8> = [0, 7, 255, 255].into_iter().flat_map(|v| [v; 3]).collect();
        assert_eq!(image.samples, Samples::Bytes(values));
    }

    #[test]
    fn channels_and_depths_must_be_as_said() {
        let file = bands(2, 2, 5, false, |i| i as u16);
        let error = |d: Decoding| tiff(&file, &d).unwrap_err();
        assert_eq!(error(want(4, Some([0., 1.]))), "has 5 channels, not 4 (data.channels)");
        assert!(error(want(5, None)).contains("data.range"));
        let small = Decoding { max_pixels: 3, ..want(5, Some([0., 1.])) };
        assert!(error(small).contains("2 x 2 pixels are more than 3"));
    }

    #[test]
    fn values_that_are_no_numbers_are_refused() {
        let mut file = std::io::Cursor::new(Vec::new());
        let values = [0f32, f32::NAN, 1., 2.];
        TiffEncoder::new(&mut file).unwrap().write_image::<colortype::Gray32Float>(2, 2, &values).unwrap();
        let error = tiff(file.get_ref(), &want(1, Some([0., 2.]))).unwrap_err();
        assert!(error.contains("not finite"), "{error}");
    }
}
