//! TIFF files written tag by tag, read as Pillow reads them.

use super::*;
use crate::Range;

/// A TIFF file of one strip per page, its tags as they are given.
struct Written {
    width: u32,
    height: u32,
    bits: u32,
    samples: u32,
    photometric: u32,
    /// Further tags of 16-bit numbers.
    more: Vec<(u16, Vec<u32>)>,
    description: &'static str,
    pages: Vec<Vec<u8>>,
}

impl Written {
    fn of(width: u32, height: u32, (bits, samples, photometric): (u32, u32, u32), data: Vec<u8>) -> Self {
        Self { width, height, bits, samples, photometric, more: Vec::new(), description: "", pages: vec![data] }
    }

    fn with(mut self, tag: u16, values: &[u32]) -> Self {
        self.more.push((tag, values.to_vec()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = b"II\x2a\0\0\0\0\0".to_vec();
        let mut link = 4;
        for data in &self.pages {
            let start = file.len() as u32;
            file.extend(data);
            let mut tags: Vec<(u16, u16, Vec<u32>)> = vec![
                (256, 4, vec![self.width]),
                (257, 4, vec![self.height]),
                (258, 3, vec![self.bits; self.samples as usize]),
                (259, 3, vec![1]),
                (262, 3, vec![self.photometric]),
                (273, 4, vec![start]),
                (277, 3, vec![self.samples]),
                (279, 4, vec![data.len() as u32]),
            ];
            for (tag, values) in &self.more {
                tags.retain(|(of, _, _)| of != tag);
                tags.push((*tag, 3, values.clone()));
            }
            if !self.description.is_empty() {
                tags.push((270, 2, self.description.bytes().map(u32::from).chain([0]).collect()));
            }
            tags.sort_by_key(|(tag, _, _)| *tag);
            let mut entries = (tags.len() as u16).to_le_bytes().to_vec();
            for (tag, kind, values) in tags {
                let packed: Vec<u8> = match kind {
                    2 => values.iter().map(|v| *v as u8).collect(),
                    3 => values.iter().flat_map(|v| (*v as u16).to_le_bytes()).collect(),
                    _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                };
                entries.extend(tag.to_le_bytes());
                entries.extend(kind.to_le_bytes());
                entries.extend((values.len() as u32).to_le_bytes());
                if packed.len() > 4 {
                    entries.extend((file.len() as u32).to_le_bytes());
                    file.extend(packed);
                } else {
                    entries.extend([&packed[..], &[0; 4][packed.len()..]].concat());
                }
            }
            let directory = file.len() as u32;
            file[link..link + 4].copy_from_slice(&directory.to_le_bytes());
            file.extend(entries);
            link = file.len();
            file.extend([0; 4]);
        }
        file
    }
}

fn rgb(file: &Written) -> Result<(Vec<u8>, Notes), String> {
    let (image, notes) = Decoding::default().noted(&file.bytes())?;
    let Samples::Bytes(pixels) = image.samples else { panic!("floats") };
    Ok((pixels, notes))
}

fn bands(file: &Written, channels: usize, range: [f32; 2]) -> Result<Image, String> {
    Decoding { channels, range: Some(Range::All(range)), ..Decoding::default() }.image(&file.bytes())
}

#[test]
fn bands_beside_red_green_and_blue_come_out_as_they_went_in() {
    let data: Vec<u8> = (0..2 * 3 * 4u16).flat_map(|i| (i * 1000).to_le_bytes()).collect();
    let plain = Written::of(2, 3, (16, 4, 1), data.clone()).with(338, &[0, 0, 0]);
    let rgbn = Written::of(2, 3, (16, 4, 2), data.clone()).with(338, &[0]);
    let want = bands(&plain, 4, [0., 65535.]).unwrap();
    assert_eq!(bands(&rgbn, 4, [0., 65535.]).unwrap(), want);
    // Without a word about the fourth sample, and with one that calls it alpha.
    assert_eq!(bands(&Written::of(2, 3, (16, 4, 2), data.clone()), 4, [0., 65535.]).unwrap(), want);
    assert_eq!(bands(&Written::of(2, 3, (16, 4, 2), data.clone()).with(338, &[1]), 4, [0., 65535.]).unwrap(), want);
    // As RGB the fourth is left out, and counted.
    let (pixels, notes) = rgb(&rgbn).unwrap();
    assert_eq!(pixels[..6], [0, 3, 7, 15, 19, 23]);
    assert_eq!((notes.unused, notes.bits), (1, 16));
    // Five samples, of which three are colours.
    let data: Vec<u8> = (0..10).collect();
    let five = Written::of(2, 1, (8, 5, 2), data).with(338, &[0, 0]);
    assert_eq!(rgb(&five).unwrap().0, [0, 1, 2, 5, 6, 7]);
    assert_eq!(bands(&five, 5, [0., 10.]).unwrap().channels, 5);
    assert!(bands(&five, 3, [0., 10.]).unwrap_err().contains("has 5 channels, not 3"));
}

#[test]
fn differences_are_summed_up_over_all_samples() {
    // Horizontal differences of four samples, the fourth no colour.
    let rows = [10u8, 20, 30, 40, 1, 2, 3, 4];
    let file = Written::of(2, 1, (8, 4, 2), rows.to_vec()).with(338, &[0]).with(317, &[2]);
    assert_eq!(rgb(&file).unwrap().0, [10, 20, 30, 11, 22, 33]);
}

#[test]
fn premultiplied_alpha_is_divided_out_as_pillow_does() {
    let data = vec![10, 20, 30, 0, 10, 20, 30, 255, 10, 20, 30, 40, 200, 20, 30, 40];
    let file = Written::of(4, 1, (8, 4, 2), data).with(338, &[1]);
    assert_eq!(rgb(&file).unwrap().0, [0, 0, 0, 10, 20, 30, 63, 127, 191, 255, 127, 191]);
    // Other alpha is dropped.
    let data = vec![10, 20, 30, 0, 10, 20, 30, 40];
    assert_eq!(rgb(&Written::of(2, 1, (8, 4, 2), data).with(338, &[2])).unwrap().0, [10, 20, 30, 10, 20, 30]);
}

#[test]
fn palettes_few_bits_and_white_at_zero() {
    let palette: Vec<u32> = (0..12).map(|i| i * 0x1100).collect();
    let file = Written::of(4, 1, (2, 1, 3), vec![0b00_01_10_11]).with(320, &palette);
    let want: Vec<u8> = (0..4u8).flat_map(|i| [i, i + 4, i + 8].map(|v| v * 0x11)).collect();
    assert_eq!(rgb(&file).unwrap().0, want);
    assert_eq!(bands(&file, 3, [0., 255.]).unwrap().channels, 3);
    let file = |photometric, bits| Written::of(2, 1, (bits, 1, photometric), vec![0x1e]);
    assert_eq!(rgb(&file(1, 4)).unwrap().0, [17, 17, 17, 238, 238, 238]);
    assert_eq!(rgb(&file(0, 4)).unwrap().0, [238, 238, 238, 17, 17, 17]);
    assert_eq!(rgb(&file(0, 1)).unwrap().0, [255; 6]);
    // Bits from the lowest on.
    assert_eq!(rgb(&file(1, 4).with(266, &[2])).unwrap().0, [119, 119, 119, 136, 136, 136]);
    assert!(rgb(&Written::of(1, 1, (8, 3, 8), vec![0; 3])).unwrap_err().contains("Lab"));
    assert!(rgb(&Written::of(1, 1, (8, 3, 6), vec![0; 3])).unwrap_err().contains("YCbCr"));
    assert!(rgb(&Written::of(1, 1, (8, 3, 1), vec![0; 3])).unwrap_err().contains("data.channels=3"));
}

#[test]
fn cmyk_is_multiplied_out_as_pillow_does() {
    let file = Written::of(1, 2, (8, 4, 5), vec![0, 128, 255, 0, 10, 20, 30, 100]);
    assert_eq!(rgb(&file).unwrap().0, [255, 127, 0, 149, 143, 137]);
}

#[test]
fn pages_are_read_by_their_axes_or_refused() {
    let mut file = Written::of(2, 2, (8, 1, 1), vec![1; 4]);
    file.pages.extend([vec![2; 4], vec![3; 4]]);
    let refused = |file: &Written, channels| bands(file, channels, [0., 255.]).unwrap_err();
    // Nothing says what they are: channels for those who ask for as many, else refused with both ways out.
    assert_eq!(bands(&file, 3, [0., 255.]).unwrap().channels, 3);
    for error in [refused(&file, 1), refused(&file, 2), rgb(&file).unwrap_err()] {
        assert!(error.contains("has 3 pages") && error.contains("tiffsplit"), "{error}");
        assert!(error.contains("data.channels=3"), "{error}");
    }
    // Channels are red, green and blue where there are three.
    file.description = "ImageJ=1.53t\nimages=3\nchannels=3\n";
    assert_eq!(rgb(&file).unwrap().0, [1, 2, 3].repeat(4));
    assert_eq!(bands(&file, 3, [0., 255.]).unwrap().channels, 3);
    assert!(refused(&file, 1).contains("has 3 channels, not 1"));
    // Stacks are not channels, whatever is asked for.
    for (description, what) in [
        ("ImageJ=1.53t\nimages=3\nslices=3\n", "3 slices (Z) and 1 frames (T), as ImageJ says"),
        ("ImageJ=1.53t\nimages=3\nframes=3\n", "1 slices (Z) and 3 frames (T)"),
        ("<OME><Pixels SizeC=\"1\" SizeT=\"1\" SizeZ=\"3\"/></OME>", "as OME says"),
        (r#"{"shape": [3, 2, 2], "axes": "ZYX"}"#, "as tifffile says"),
        ("ImageJ=1.53t\nimages=6\nchannels=6\n", "has 3 pages, but ImageJ speaks of 6"),
    ] {
        file.description = description;
        for error in [refused(&file, 3), refused(&file, 1), rgb(&file).unwrap_err()] {
            assert!(error.contains(what), "{error}");
        }
    }
    // All planes behind one directory.
    file.description = "ImageJ=1.53t\nimages=3\nchannels=3\n";
    file.pages = vec![[[1; 4], [2; 4], [3; 4]].concat()];
    file = file.with(279, &[4]);
    assert_eq!(rgb(&file).unwrap().0, [1, 2, 3].repeat(4));
}

#[test]
fn channels_within_a_pixel_are_no_pages() {
    let data: Vec<u8> = (0..2 * 2 * 3).collect();
    let mut file = Written::of(2, 2, (8, 3, 2), data);
    for description in [
        r#"{"shape": [2, 2, 3], "axes": "YXC"}"#,
        r#"{"shape": [2, 2, 3], "axes": "YXS"}"#,
        r#"{"shape": [3, 2, 2], "axes": "CYX"}"#,
    ] {
        file.description = description;
        assert_eq!(rgb(&file).unwrap().0, (0..12).collect::<Vec<u8>>());
        assert_eq!(bands(&file, 3, [0., 255.]).unwrap().channels, 3);
    }
    let mut five = Written::of(2, 1, (8, 5, 1), (0..10).collect());
    five.description = r#"{"shape": [1, 2, 5], "axes": "YXC"}"#;
    assert_eq!(bands(&five, 5, [0., 255.]).unwrap().channels, 5);
    // Pages of colours are no channels, and nobody is told to take them for such.
    let mut pages = Written::of(1, 1, (8, 3, 2), vec![1, 2, 3]);
    pages.pages.push(vec![4, 5, 6]);
    let error = rgb(&pages).unwrap_err();
    assert!(error.contains("has 2 pages") && !error.contains("data.channels"), "{error}");
    pages.description = r#"{"shape": [2, 1, 1, 3], "axes": "CYXS"}"#;
    assert!(bands(&pages, 6, [0., 255.]).unwrap_err().contains("several samples per pixel"));
}

#[test]
fn a_part_of_an_image_of_several_files_is_no_image() {
    let mut file = Written::of(2, 2, (8, 1, 1), [[1; 4], [2; 4]].concat());
    file = file.with(279, &[4]);
    file.description = "<OME><Pixels SizeC=\"2\" SizeT=\"1\" SizeZ=\"1\"><TiffData><UUID FileName=\"a.ome.tif\">u</UUID>\
        </TiffData><TiffData><UUID FileName=\"b.ome.tif\">v</UUID></TiffData></Pixels></OME>";
    for error in [rgb(&file).unwrap_err(), bands(&file, 2, [0., 255.]).unwrap_err()] {
        assert!(error.contains("a part of an OME-TIFF of several files (b.ome.tif is another)"), "{error}");
    }
    // What OME calls planes has directories; nothing is read behind the only one.
    file.description = "<OME><Pixels SizeC=\"2\" SizeT=\"1\" SizeZ=\"1\"><TiffData/></Pixels></OME>";
    assert!(bands(&file, 2, [0., 255.]).unwrap_err().contains("has 1 pages, but OME speaks of 2"));
}

#[test]
fn fractions_that_bytes_do_not_keep_are_counted() {
    let floats = |v: [f32; 4]| Written::of(2, 2, (32, 1, 1), v.map(f32::to_le_bytes).concat()).with(339, &[3]);
    let (pixels, notes) = rgb(&floats([0., 0.25, 0.5, 1.])).unwrap();
    assert_eq!(pixels, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
    assert_eq!((notes.fractions, notes.black), (2, true));
    let (_, notes) = rgb(&floats([0., 2.5, 100., 255.])).unwrap();
    assert_eq!((notes.fractions, notes.black), (1, false));
    let (_, notes) = rgb(&floats([0., 1., 1., 0.])).unwrap();
    assert_eq!((notes.fractions, notes.black), (0, false));
}

#[test]
fn what_is_missing_or_beyond_belief_is_refused() {
    let file = Written::of(4, 4, (8, 1, 1), vec![7; 15]);
    assert!(rgb(&file).unwrap_err().contains("strip 1 of 1 is truncated"));
    let file = Written::of(4, 4, (8, 1, 1), vec![7; 16]).with(259, &[50000]);
    let error = rgb(&file).unwrap_err();
    assert!(error.contains("Zstandard") && error.contains("Deflate"), "{error}");
    let file = Written::of(4, 4, (8, 1, 1), vec![7; 16]).with(259, &[5]);
    assert!(rgb(&file).is_err());
    let file = Written::of(1, 1, (8, 60_000, 1), vec![7; 60_000]);
    let small = Decoding { max_pixels: 100, ..Decoding::default() };
    assert!(small.image(&file.bytes()).unwrap_err().contains("data.max_pixels"));
}

#[test]
fn orientation_turns_rgb_as_pillow_does_and_bands_where_asked() {
    let file = Written::of(2, 1, (8, 1, 1), vec![1, 2]).with(274, &[3]);
    let as_stored = Decoding { exif: false, ..Decoding::default() };
    let (image, notes) = as_stored.noted(&file.bytes()).unwrap();
    assert_eq!((image.samples, notes.unturned), (Samples::Bytes(vec![2, 2, 2, 1, 1, 1]), false));
    let one = Decoding { channels: 1, ..as_stored };
    let (image, notes) = one.noted(&file.bytes()).unwrap();
    assert_eq!((image.samples, notes.unturned), (Samples::Bytes(vec![1, 2]), true));
    let (image, notes) = Decoding { exif: true, ..one }.noted(&file.bytes()).unwrap();
    assert_eq!((image.samples, notes.unturned), (Samples::Bytes(vec![2, 1]), false));
}
