//! Small images in every kind of file that is read.

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb, Rgba};
use mozjpeg::{ColorSpace, Compress};
use std::io::Cursor;
use tiff::encoder::{Compression, DeflateLevel, TiffEncoder, colortype};

type Seeds = anyhow::Result<Vec<Vec<u8>>>;

const WIDTH: u32 = 33;
const HEIGHT: u32 = 21;

fn colour() -> DynamicImage {
    ImageBuffer::from_fn(WIDTH, HEIGHT, |x, y| Rgb([x as u8 * 7, y as u8 * 11, (x * y) as u8])).into()
}

fn alpha() -> DynamicImage {
    ImageBuffer::from_fn(WIDTH, HEIGHT, |x, y| Rgba([x as u8 * 7, y as u8 * 11, 9, (x + y) as u8])).into()
}

fn grey() -> DynamicImage {
    ImageBuffer::from_fn(WIDTH, HEIGHT, |x, y| Luma([(x * y) as u8])).into()
}

fn deep() -> DynamicImage {
    ImageBuffer::from_fn(WIDTH, HEIGHT, |x, y| Luma([(x * y * 90) as u16])).into()
}

fn encoded(images: &[DynamicImage], format: ImageFormat) -> Seeds {
    let file = |image: &DynamicImage| {
        let mut out = Cursor::new(Vec::new());
        image.write_to(&mut out, format)?;
        Ok(out.into_inner())
    };
    images.iter().map(file).collect()
}

/// JPEG files: colour, grey, with an orientation, progressive, with restart markers, and of four inks.
pub fn jpeg() -> Seeds {
    let mut files = encoded(&[colour(), grey()], ImageFormat::Jpeg)?;
    let exif = b"\xff\xe1\0\x22Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let turned = [&files[0][..2], exif, &files[0][2..]].concat();
    files.push(turned);
    for (space, progressive, restart) in
        [(ColorSpace::JCS_RGB, true, false), (ColorSpace::JCS_RGB, false, true), (ColorSpace::JCS_CMYK, false, false)]
    {
        let pixels = if space == ColorSpace::JCS_CMYK { alpha() } else { colour() };
        let mut encoder = Compress::new(space);
        encoder.set_size(WIDTH as usize, HEIGHT as usize);
        if progressive {
            encoder.set_progressive_mode();
        }
        let mut started = encoder.start_compress(Vec::new())?;
        started.write_scanlines(pixels.as_bytes())?;
        let mut file = started.finish()?;
        if restart {
            // A restart interval longer than the image changes nothing but the way of decoding.
            file.splice(2..2, *b"\xff\xdd\0\x04\x01\0");
        }
        files.push(file);
    }
    Ok(files)
}

/// PNG files: colour, alpha, grey, 16 bits, and 4 bits of a palette with transparency; none is interlaced.
pub fn png() -> Seeds {
    let mut files = encoded(&[colour(), alpha(), grey(), deep()], ImageFormat::Png)?;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 6, 4);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Four);
    encoder.set_palette((0..48).collect::<Vec<u8>>());
    encoder.set_trns(vec![0, 128, 255]);
    encoder.add_ztxt_chunk("Comment".into(), "compressed text ".repeat(50))?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&[0x12; 12])?;
    writer.finish()?;
    files.push(file);
    Ok(files)
}

/// WebP files: some without loss, and one with loss, whose arithmetic code makes something of any bytes.
pub fn webp() -> Seeds {
    let mut files = encoded(&[colour(), alpha()], ImageFormat::WebP)?;
    let noise = (0..600u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    // A key frame that is shown, its first part of 300 bytes, of 33 x 21 pixels.
    let head = 300u32 << 5 | 1 << 4;
    let frame: Vec<u8> = [&head.to_le_bytes()[..3], b"\x9d\x01\x2a", &[33, 0, 21, 0], &[0; 8]]
        .concat()
        .into_iter()
        .chain(noise)
        .collect();
    let size = |n: usize| (n as u32).to_le_bytes();
    files.push([b"RIFF", &size(frame.len() + 12)[..], b"WEBPVP8 ", &size(frame.len()), &frame].concat());
    Ok(files)
}

/// BMP files: 24 and 32 bits, a palette, and run lengths.
pub fn bmp() -> Seeds {
    let mut files = encoded(&[colour(), alpha(), grey()], ImageFormat::Bmp)?;
    let rows = b"\x05\x01\0\0\x02\x02\x03\x03\0\0\0\x01"; // five alike; two and three; the end
    let head = [54 + 16 + rows.len() as u32, 0, 54 + 16, 40, 5, 2, 8 << 16 | 1, 1, rows.len() as u32, 0, 0, 4, 0];
    let head = head.iter().flat_map(|n| n.to_le_bytes());
    let palette = [[1, 2, 3, 0], [9, 9, 9, 0], [200, 1, 1, 0], [1, 200, 1, 0]].concat();
    files.push(b"BM".iter().copied().chain(head).chain(palette).chain(*rows).collect());
    Ok(files)
}

/// TIFF files: plain, packed in each way, of 16 bits, of floats, and of several pages.
pub fn tiff() -> Seeds {
    let mut files = encoded(&[colour(), alpha(), deep()], ImageFormat::Tiff)?;
    let values: Vec<u16> = (0..12 * 9).map(|i| i * 500).collect();
    for compression in [Compression::Lzw, Compression::Packbits, Compression::Deflate(DeflateLevel::Balanced)] {
        let mut out = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut out)?.with_compression(compression);
        for _ in 0..4 {
            encoder.write_image::<colortype::Gray16>(12, 9, &values)?;
        }
        files.push(out.into_inner());
    }
    let mut out = Cursor::new(Vec::new());
    let floats: Vec<f32> = (0..12 * 9).map(|i| i as f32).collect();
    TiffEncoder::new(&mut out)?.write_image::<colortype::Gray32Float>(12, 9, &floats)?;
    files.push(out.into_inner());
    Ok(files)
}
