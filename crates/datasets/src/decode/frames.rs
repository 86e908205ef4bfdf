//! Frames and pictures of a file behind the first, which are not read: animations, and JPEG files of several pictures
//! (MPO). Only counted; a file that is damaged here has none.

use super::Format;

/// How many there are.
pub(super) fn further(bytes: &[u8], format: Format) -> usize {
    let count = match format {
        Format::WebP => webp(bytes),
        Format::Png => png(bytes),
        Format::Jpeg => mpo(bytes),
        Format::Bmp | Format::Tiff => None,
    };
    count.unwrap_or(0)
}

/// The frames of an animated WebP file but one.
fn webp(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut frames) = (12, 0usize);
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let [kind @ .., a, b, c, d] = *head;
        // Animated files alone have more than an image: the others need not be gone through.
        match &kind {
            b"VP8X" if bytes.get(at + 8)? & 2 == 0 => return None,
            b"VP8 " | b"VP8L" => return None,
            b"ANMF" => frames += 1,
            _ => {}
        }
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        at = at.checked_add(8)?.checked_add(length)?.checked_add(length & 1)?;
    }
    frames.checked_sub(1)
}

/// The frames of an animated PNG file but the picture that others show, which may be the first of them.
fn png(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut frames, mut is_first) = (8, 0, false);
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let [a, b, c, d, kind @ ..] = *head;
        match &kind {
            b"acTL" => frames = number(bytes.get(at + 8..at + 12)?, true),
            b"fcTL" => is_first = true,
            b"IDAT" | b"IEND" => return frames.checked_sub(usize::from(is_first && frames > 0)),
            _ => {}
        }
        at = at.checked_add(12)?.checked_add(u32::from_be_bytes([a, b, c, d]) as usize)?;
    }
    None
}

/// The pictures that the index of a JPEG file lists behind the first, without smaller copies of it.
fn mpo(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        let &[0xff, marker, high, low] = bytes.get(at..)?.first_chunk::<4>()? else { return None };
        if marker == 0xda || marker == 0xd9 {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        let segment = bytes.get(at + 4..at + 2 + length)?;
        if let (0xe2, Some(index)) = (marker, segment.strip_prefix(b"MPF\0")) {
            return listed(index);
        }
        at += 2 + length;
    }
}

/// From the index: a directory as TIFF has it, and 16 bytes for each picture.
fn listed(index: &[u8]) -> Option<usize> {
    const PICTURES: usize = 0xb002;
    let big = match index.get(..2)? {
        b"MM" => true,
        b"II" => false,
        _ => return None,
    };
    let of = |at: usize, size: usize| Some(number(index.get(at..at.checked_add(size)?)?, big));
    let directory = of(4, 4)?;
    let entries = (0..of(directory, 2)?).map(|entry| directory + 2 + 12 * entry);
    let entry = entries.take_while(|at| of(*at, 12).is_some()).find(|at| of(*at, 2) == Some(PICTURES))?;
    let (count, start) = (of(entry + 4, 4)? / 16, of(entry + 8, 4)?);
    let kinds = (1..count).map_while(|picture| Some(of(start + 16 * picture, 4)? & 0xff_ffff));
    // Large thumbnails.
    Some(kinds.filter(|kind| !matches!(kind, 0x1_0001 | 0x1_0002)).count())
}

fn number(bytes: &[u8], big: bool) -> usize {
    let add = |sum: usize, b: &u8| sum << 8 | usize::from(*b);
    if big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
}

#[cfg(test)]
mod tests {
    use crate::Decoding;
    use image::codecs::webp::WebPEncoder;

    #[test]
    fn frames_of_an_animated_png_are_counted() {
        for (own, expected) in [(true, 2), (false, 3)] {
            let mut file = Vec::new();
            let mut encoder = png::Encoder::new(&mut file, 2, 2);
            encoder.set_animated(3, 0).unwrap();
            encoder.set_sep_def_img(!own).unwrap();
            encoder.set_color(png::ColorType::Rgb);
            let mut writer = encoder.write_header().unwrap();
            (0..3 + u8::from(!own)).for_each(|i| writer.write_image_data(&[i; 12]).unwrap());
            writer.finish().unwrap();
            let (image, notes) = Decoding::default().noted(&file).unwrap();
            assert_eq!((image.samples, notes.frames), (crate::Samples::Bytes(vec![0; 12]), expected));
        }
    }

    #[test]
    fn frames_of_an_animated_webp_are_counted() {
        let mut still = Vec::new();
        WebPEncoder::new_lossless(&mut still).encode(&[7; 12], 2, 2, image::ExtendedColorType::Rgb8).unwrap();
        assert_eq!(Decoding::default().noted(&still).unwrap().1.frames, 0);
        let chunk = |kind: &[u8], data: &[u8]| {
            [kind, &(data.len() as u32).to_le_bytes(), data, &vec![0; data.len() % 2]].concat()
        };
        // Each frame: place, size less one, time, flags (not to be mixed with what is below).
        let frame = chunk(b"ANMF", &[&[0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 9, 0, 0, 2][..], &still[12..]].concat());
        let body = [
            chunk(b"VP8X", &[2, 0, 0, 0, 1, 0, 0, 1, 0, 0]),
            chunk(b"ANIM", &[0; 6]),
            frame.clone(),
            frame.clone(),
            frame,
        ];
        let file = chunk(b"RIFF", &[b"WEBP", &body.concat()[..]].concat());
        let (image, notes) = Decoding::default().noted(&file).unwrap();
        assert_eq!((image.samples, notes.frames), (crate::Samples::Bytes(vec![7; 12]), 2));
    }

    #[test]
    fn pictures_of_a_jpeg_file_are_counted_without_thumbnails() {
        let mut jpeg = Vec::new();
        let picture = image::RgbImage::from_pixel(8, 8, image::Rgb([9, 9, 9]));
        picture.write_to(&mut std::io::Cursor::new(&mut jpeg), image::ImageFormat::Jpeg).unwrap();
        let mut index = b"MPF\0MM\0\x2a\0\0\0\x08\0\x01\xb0\x02\0\x07\0\0\0\x40\0\0\0\x1a\0\0\0\0".to_vec();
        for kind in [0x2003_0000u32, 0x0002_0002, 0x0001_0001, 0] {
            index.extend(kind.to_be_bytes());
            index.extend([0; 12]);
        }
        let head = [&b"\xff\xe2"[..], &(index.len() as u16 + 2).to_be_bytes(), &index].concat();
        let file = [&jpeg[..2], &head, &jpeg[2..], &jpeg].concat();
        let (_, notes) = Decoding::default().noted(&file).unwrap();
        assert_eq!(notes.frames, 2);
    }
}
