//! Image files to pixels, strictly: a file is decoded whole or not at all.

mod bmp;
mod cut;
mod decoding;
pub(crate) mod foreign;
mod format;
mod frames;
mod header;
mod jpeg;
mod libjpeg;
mod notes;
pub(crate) mod orientation;
mod range;
mod raw;
mod rgb;
mod scan;
mod tiff;
mod values;

pub use decoding::Decoding;
pub use format::Format;
pub use header::Header;
use image::metadata::Orientation;
use image::{ImageDecoder, ImageReader, Limits};
pub(crate) use notes::Seen;
pub use notes::{LeftOut, Notes, Tally};
pub use range::Range;
pub use raw::Raw;
use std::io::Cursor;
use std::path::Path;

use crate::file::contents;
use crate::{Content, Error, Image, Rgb, Samples};

/// Decodes a JPEG, PNG, WebP, BMP or TIFF file, recognised by its content, as 8-bit RGB.
///
/// Conversions are those of Pillow's `convert("RGB")`: alpha is dropped, palettes and grey are
/// expanded, CMYK is multiplied out, 16-bit colour keeps its high byte, and of 16-bit grey (and of
/// floats) everything above 255 is white; give [`Decoding::range`] to use such values. An EXIF
/// orientation is applied, as OpenCV does. JPEG files become the bytes that libjpeg makes of them
/// ([`Decoding::exact_jpeg`]).
///
/// Refused: empty, truncated and unknown files, and images beyond the limits of [`Decoding`].
pub fn decode(path: impl AsRef<Path>) -> Result<Rgb, Error> {
    upright(path.as_ref()).map(|(rgb, _)| rgb)
}

/// [`decode`], and what of the file its pixels do not have.
pub(crate) fn upright(path: &Path) -> Result<(Rgb, Notes), Error> {
    let bytes = contents(path)?;
    let upright = Decoding { exif: true, exact_jpeg: true, ..Decoding::default() };
    let (image, notes) = upright.noted(&bytes).map_err(|reason| Error::decode(path, reason))?;
    match image.samples {
        Samples::Bytes(pixels) => Ok((Rgb { width: image.width, height: image.height, pixels }, notes)),
        Samples::Floats(_) => Err(Error::decode(path, "holds no bytes")),
    }
}

impl Decoding {
    /// Decodes the contents of an image file, or says why not.
    pub fn image(&self, bytes: &[u8]) -> Result<Image, String> {
        self.noted(bytes).map(|(image, _)| image)
    }

    /// Decodes the contents of an image file and tells what of them its pixels do not have; or says why there
    /// are none.
    pub fn noted(&self, bytes: &[u8]) -> Result<(Image, Notes), String> {
        let format = self.format(bytes)?;
        let (mut image, orientation, mut notes) = match format {
            Format::Jpeg => jpeg::decode(bytes, self)?,
            Format::Tiff => tiff::decode(bytes, self)?,
            _ => self.usual(bytes, format)?,
        };
        if !image.is_whole() {
            return Err("the image has no pixels".into());
        }
        if self.exif || (format == Format::Tiff && self.is_rgb()) {
            image = turned(image, orientation);
        } else {
            notes.unturned = orientation != Orientation::NoTransforms;
        }
        notes.frames = frames::further(bytes, format);
        Ok((image, notes))
    }

    /// The format of a file of an allowed size.
    fn format(&self, bytes: &[u8]) -> Result<Format, String> {
        if bytes.is_empty() {
            return Err("the file is empty".into());
        }
        if bytes.len() as u64 > self.max_bytes {
            return Err(format!("the file has {} bytes, more than {} (data.max_bytes)", bytes.len(), self.max_bytes));
        }
        let unknown = || {
            let told = foreign::told(bytes).map_or(String::new(), |told| format!(", {told}"));
            format!("not a JPEG, PNG, WebP, BMP or TIFF file{told}")
        };
        Format::of(bytes).ok_or_else(unknown)
    }

    /// An image as a source holds it: decodes a file, and makes of pixels what is wanted. Tells, too, what of it the
    /// result does not have; or says why there is none.
    pub fn content(&self, content: Content) -> Result<(Image, Notes), String> {
        match content {
            Content::File(bytes) => self.noted(&bytes),
            Content::Image(image) => self.accept(image),
        }
    }

    /// Pixels that a source holds as such: grey becomes RGB where that is wanted.
    fn accept(&self, image: Image) -> Result<(Image, Notes), String> {
        let as_it_is = |image: Image| (image, Notes::default());
        match image.samples {
            Samples::Bytes(v) if self.is_rgb() && image.channels == 1 => Ok(as_it_is(Image {
                channels: 3,
                samples: Samples::Bytes(v.into_iter().flat_map(|v| [v; 3]).collect()),
                ..image
            })),
            Samples::Bytes(_) if self.is_rgb() && image.channels == 3 => Ok(as_it_is(image)),
            Samples::Bytes(v) => {
                let shape = (image.width, image.height, image.channels);
                values::used(shape, values::Stored::Bytes(v), self)
            }
            Samples::Floats(_) => Ok(as_it_is(image)),
        }
    }

    /// Decodes with the `image` crate.
    fn usual(&self, bytes: &[u8], format: Format) -> Result<(Image, Orientation, Notes), String> {
        let (picture, orientation) = self.picture(bytes, format)?;
        let (image, notes) = match self.is_rgb() {
            true => rgb::from(picture, format == Format::Png && matches!(bytes.get(24..26), Some([16, 0]))),
            false => {
                let (shape, stored, _) = values::from(picture);
                values::used(shape, stored, self)?
            }
        };
        Ok((image, orientation, notes))
    }

    /// A picture of the `image` crate, as it is stored.
    fn picture(&self, bytes: &[u8], format: Format) -> Result<(image::DynamicImage, Orientation), String> {
        let mut decoder = self.decoder(bytes, format)?;
        if format == Format::Bmp
            && let Some(picture) = match bmp::of_16_bits(bytes, |w, h| self.admit(w, h))? {
                Some(picture) => Some(picture),
                None => bmp::of_runs(bytes)?,
            }
        {
            return Ok((picture, Orientation::NoTransforms));
        }
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        Ok((image::DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?, orientation))
    }

    /// A decoder of the `image` crate, its header read and found small enough.
    fn decoder<'a>(&self, bytes: &'a [u8], format: Format) -> Result<impl ImageDecoder + 'a, String> {
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format.library());
        let mut limits = Limits::default();
        // Up to 4 floats per pixel, and what a decoder needs for itself.
        limits.max_alloc = Some(self.max_pixels.saturating_mul(16).saturating_add(64 << 20));
        reader.limits(limits);
        let decoder = reader.into_decoder().map_err(|e| e.to_string())?;
        let (width, height) = decoder.dimensions();
        self.admit(width.into(), height.into())?;
        Ok(decoder)
    }
}

/// The image as a viewer shows it.
fn turned(image: Image, orientation: Orientation) -> Image {
    use Orientation::*;
    let (w, h, c) = (image.width, image.height, image.channels);
    // Where the pixel in column x and row y of the result comes from.
    type From = fn(usize, usize, usize, usize) -> (usize, usize);
    let (swap, from): (bool, From) = match orientation {
        NoTransforms => return image,
        FlipHorizontal => (false, |x, y, w, _| (w - 1 - x, y)),
        Rotate180 => (false, |x, y, w, h| (w - 1 - x, h - 1 - y)),
        FlipVertical => (false, |x, y, _, h| (x, h - 1 - y)),
        Rotate90FlipH => (true, |x, y, _, _| (y, x)),
        Rotate90 => (true, |x, y, _, h| (y, h - 1 - x)),
        Rotate270FlipH => (true, |x, y, w, h| (w - 1 - y, h - 1 - x)),
        Rotate270 => (true, |x, y, w, _| (w - 1 - y, x)),
    };
    let (width, height) = if swap { (h, w) } else { (w, h) };
    fn moved<T: Copy>(
        v: &[T],
        (width, height, c): (usize, usize, usize),
        at: impl Fn(usize, usize) -> usize,
    ) -> Vec<T> {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        places.flat_map(|(x, y)| v[at(x, y) * c..][..c].iter().copied()).collect()
    }
    let at = |x, y| {
        let (x, y) = from(x, y, w, h);
        y * w + x
    };
    let samples = match &image.samples {
        Samples::Bytes(v) => Samples::Bytes(moved(v, (width, height, c), at)),
        Samples::Floats(v) => Samples::Floats(moved(v, (width, height, c), at)),
    };
    Image { width, height, channels: c, samples }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb as Px, Rgba};

    fn from_bytes(bytes: &[u8]) -> Result<Rgb, String> {
        let image = Decoding::default().image(bytes)?;
        let Samples::Bytes(pixels) = image.samples else { panic!("floats") };
        Ok(Rgb { width: image.width, height: image.height, pixels })
    }

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
    fn sixteen_bit_colour_keeps_its_high_byte_and_grey_is_cut_off() {
        let rgb = ImageBuffer::from_pixel(1, 1, Px([0x12ffu16, 0x3480, 0x0001]));
        let file = encoded(rgb.into(), ImageFormat::Png);
        assert_eq!(from_bytes(&file).unwrap().pixels, [0x12, 0x34, 0]);
        let grey = ImageBuffer::from_pixel(1, 1, Luma([0xabcdu16]));
        let file = encoded(grey.into(), ImageFormat::Tiff);
        // Pillow keeps 16-bit grey as it is and cuts it off at 255.
        assert_eq!(from_bytes(&file).unwrap().pixels, [255; 3]);
    }

    #[test]
    fn pixels_of_a_source_outside_of_the_range_are_counted_like_those_of_files() {
        let pixels = Image { width: 4, height: 1, channels: 1, samples: Samples::Bytes(vec![0, 100, 150, 255]) };
        let range = Some([100., 200.].into());
        let (image, notes) =
            Decoding { channels: 1, range, ..Decoding::default() }.content(Content::Image(pixels)).unwrap();
        assert_eq!(image.samples, Samples::Floats(vec![0., 0., 0.5, 1.]));
        assert_eq!((notes.outside, notes.values), ([1, 1], 4));
    }

    #[test]
    fn a_transparent_grey_does_not_change_what_16_bits_become() {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 2, 1);
        encoder.set_depth(png::BitDepth::Sixteen);
        encoder.set_trns(vec![0, 1]);
        encoder.write_header().unwrap().write_image_data(&[0xab, 0xcd, 0, 77]).unwrap();
        assert_eq!(from_bytes(&file).unwrap().pixels, [255, 255, 255, 77, 77, 77]);
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

    #[test]
    fn each_orientation_puts_the_pixels_where_the_image_crate_does() {
        let pixels: Vec<u8> = (0..3 * 2 * 3).collect();
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif).unwrap();
            let image = Image { width: 3, height: 2, channels: 3, samples: Samples::Bytes(pixels.clone()) };
            let got = turned(image, orientation);
            let mut want: DynamicImage = image::RgbImage::from_raw(3, 2, pixels.clone()).unwrap().into();
            want.apply_orientation(orientation);
            assert_eq!((got.width as u32, got.height as u32), (want.width(), want.height()));
            assert_eq!(got.samples, Samples::Bytes(want.into_bytes()), "{exif}");
        }
    }
}
