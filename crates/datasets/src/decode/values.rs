//! Files whose values are used as they are: other numbers of channels than three, and other depths than
//! eight bits.

use super::{Decoding, Notes};
use crate::{Image, Samples};
use image::DynamicImage;

/// Columns, rows and channels.
pub(super) type Shape = (usize, usize, usize);

/// Values as a file holds them.
pub(super) enum Stored {
    /// Up to 8 bits.
    Bytes(Vec<u8>),
    /// Everything else, exact up to 24 bits.
    Wide(Vec<f32>),
}

/// The values of a decoded picture, and their bits.
pub(super) fn from(image: DynamicImage) -> (Shape, Stored, usize) {
    let kind = image.color();
    let bits = usize::from(kind.bits_per_pixel() / u16::from(kind.channel_count()));
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
    (shape, stored, bits)
}

/// Pages of one channel as the channels of one image.
pub(super) fn stacked(pages: Vec<Stored>, shape: Shape) -> Result<Stored, String> {
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
fn interleaved<T: Copy>(planes: &[T], (width, height, channels): Shape) -> Result<Vec<T>, String> {
    let area = width * height;
    if planes.len() != area * channels {
        return Err(format!("{} values for {channels} planes of {width} x {height}", planes.len()));
    }
    Ok((0..area).flat_map(|i| (0..channels).map(move |c| planes[c * area + i])).collect())
}

/// Refuses another number of channels than `wanted`.
pub(super) fn expect(channels: usize, wanted: usize) -> Result<(), String> {
    if channels != wanted {
        return Err(format!("has {channels} channels, not {wanted} (data.channels)"));
    }
    Ok(())
}

/// Checks the shape and scales the values; the notes count those outside of the range.
pub(super) fn used(shape: Shape, stored: Stored, want: &Decoding) -> Result<(Image, Notes), String> {
    let (width, height, channels) = shape;
    expect(channels, want.channels)?;
    let mut notes = Notes::default();
    let samples = match (stored, &want.range) {
        (Stored::Bytes(v), None) => Samples::Bytes(v),
        (Stored::Wide(_), None) => {
            return Err("holds values of more than 8 bits; say with data.range which of them become 0 and 1 \
                        (`inspect-data --write-config FILE` finds them)"
                .into());
        }
        (Stored::Bytes(v), Some(range)) => {
            let mut counts = vec![[0u64; 256]; channels];
            v.chunks_exact(channels).for_each(|p| p.iter().zip(&mut counts).for_each(|(v, n)| n[usize::from(*v)] += 1));
            let tables: Vec<[f32; 256]> =
                (0..channels).map(|c| std::array::from_fn(|v| scale(v as f32, range.of(c), &mut [0; 2]))).collect();
            for (channel, counts) in counts.iter().enumerate() {
                let [low, high] = range.of(channel);
                let of = |outside: &dyn Fn(f32) -> bool| {
                    counts.iter().enumerate().filter(|(v, _)| outside(*v as f32)).map(|(_, n)| n).sum::<u64>()
                };
                notes.outside[0] += of(&|v| v < low);
                notes.outside[1] += of(&|v| v > high);
            }
            notes.values = v.len() as u64;
            Samples::Floats(v.iter().enumerate().map(|(i, v)| tables[i % channels][usize::from(*v)]).collect())
        }
        (Stored::Wide(mut v), Some(range)) => {
            if v.iter().any(|v| !v.is_finite()) {
                return Err("holds values that are non-finite".into());
            }
            let ranges: Vec<[f32; 2]> = (0..channels).map(|c| range.of(c)).collect();
            for pixel in v.chunks_exact_mut(channels) {
                for (value, range) in pixel.iter_mut().zip(&ranges) {
                    *value = scale(*value, *range, &mut notes.outside);
                }
            }
            notes.values = v.len() as u64;
            Samples::Floats(v)
        }
    };
    Ok((Image { width, height, channels, samples }, notes))
}

/// Where a value lies between the ends of a range; those outside are counted and cut off.
fn scale(value: f32, [low, high]: [f32; 2], outside: &mut [u64; 2]) -> f32 {
    outside[0] += u64::from(value < low);
    outside[1] += u64::from(value > high);
    ((value - low) / (high - low)).clamp(0., 1.)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiff::encoder::{TiffEncoder, colortype};

    fn want(channels: usize, range: Option<[f32; 2]>) -> Decoding {
        Decoding { channels, range: range.map(Into::into), ..Decoding::default() }
    }

    fn tiff(bytes: &[u8], want: &Decoding) -> Result<(Image, Notes), String> {
        want.noted(bytes)
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
        // No page is left out, and none is missed.
        for channels in [1, 2, 4] {
            let error = tiff(file.get_ref(), &want(channels, Some([0., 1000.]))).unwrap_err();
            assert!(error.contains("has 3 pages") && error.contains("data.channels=3"), "{error}");
        }
        let error = Decoding::default().image(file.get_ref()).unwrap_err();
        assert!(error.contains("has 3 pages"), "{error}");
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
    fn values_outside_of_the_range_are_cut_off_and_counted() {
        let file = bands(2, 2, 3, false, |i| i as u16 * 10);
        let each = crate::Range::Each(vec![[0., 60.], [30., 70.], [0., 200.]]);
        let (image, notes) = tiff(&file, &Decoding { range: Some(each), ..want(3, None) }).unwrap();
        // 0 30 60 90 in the first channel, 10 40 70 100 in the second, 20 50 80 110 in the third.
        let values = vec![0., 0., 0.1, 0.5, 0.25, 0.25, 1., 1., 0.4, 1., 1., 0.55];
        assert_eq!(image.samples, Samples::Floats(values));
        assert_eq!((notes.outside, notes.values), ([1, 2], 12));
        // So are bytes.
        let bytes = Stored::Bytes(vec![0, 100, 200, 255]);
        let (image, notes) = used((4, 1, 1), bytes, &want(1, Some([100., 200.]))).unwrap();
        assert_eq!(image.samples, Samples::Floats(vec![0., 0., 1., 1.]));
        assert_eq!(notes.outside, [1, 1]);
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
        assert!(error.contains("non-finite"), "{error}");
    }
}
