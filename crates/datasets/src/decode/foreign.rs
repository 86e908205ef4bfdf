//! Formats that are not read: how they are told by name and content, and what to do about them.

use super::Format;
use std::path::Path;

/// Formats of images that are not read, by their extensions, and what to do about them.
pub(crate) const UNSUPPORTED: [(&[&str], &str); 3] = [
    (
        &[
            "heic", "heif", "hif", "avif", "gif", "jxl", "jp2", "j2k", "jpx", "jxr", "psd", "psb", "xcf", "svg", "eps",
            "ico", "tga", "ppm", "pgm", "pbm", "pnm", "pfm", "exr", "hdr", "dds", "pcx", "qoi",
        ],
        "not supported; convert them to PNG or JPEG, for example with: magick mogrify -format png FILES",
    ),
    (
        &[
            "cr2", "cr3", "crw", "nef", "nrw", "arw", "sr2", "srf", "srw", "dng", "raf", "orf", "rw2", "rwl", "raw",
            "pef", "x3f", "3fr", "iiq", "kdc", "dcr", "mrw", "erf", "mef", "mos",
        ],
        "of cameras, not supported; develop them to TIFF or JPEG, for example with: dcraw -T FILES",
    ),
    (
        &["dcm", "dicom", "dic", "ima", "nii", "mha", "mhd", "nrrd", "mrc", "czi", "lif", "nd2", "oib", "oif", "vsi"],
        "not supported; export them to 16-bit PNG or TIFF, of DICOM for example with: dcmj2pnm +on2 FILE FILE.png",
    ),
];

/// What a file is that promises nothing by its name, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// An image that can be read.
    Image,
    /// An image of a format that is not supported, with its usual extension.
    Unsupported(&'static str),
    /// Something else.
    Other,
}

/// As many first bytes tell what a file is.
pub(crate) const START: usize = 132;

/// What begins with `start`, up to [`START`] bytes.
pub(crate) fn content(start: &[u8]) -> Content {
    let at = |place: usize, text: &[u8]| start.get(place..).is_some_and(|rest| rest.starts_with(text));
    let brand = start.get(8..12).filter(|_| at(4, b"ftyp"));
    // The brands that the file is compatible with tell AVIF from HEIC where the first is that of both.
    let compatible = &start[start.len().min(16)..start.len().min(32)];
    match brand {
        Some(b"mif1" | b"msf1") if compatible.as_chunks::<4>().0.iter().any(|b| matches!(b, b"avif" | b"avis")) => {
            return Content::Unsupported("avif");
        }
        Some(b"avif" | b"avis") => return Content::Unsupported("avif"),
        Some(b"crx ") => return Content::Unsupported("cr3"),
        Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1") => {
            return Content::Unsupported("heic");
        }
        _ => {}
    }
    const MAGIC: [(usize, &[u8], &str); 12] = [
        (128, b"DICM", "dcm"),
        (0, b"GIF8", "gif"),
        (0, b"\xff\x0a", "jxl"),
        (0, b"\0\0\0\x0cJXL ", "jxl"),
        (0, b"\0\0\0\x0cjP  ", "jp2"),
        (0, b"8BPS", "psd"),
        (0, b"FUJIFILMCCD-RAW", "raf"),
        (0, b"IIRO", "orf"),
        (0, b"IIU\0", "rw2"),
        (0, b"v/1\x01", "exr"),
        (8, b"CR\x02", "cr2"),
        (0, b"<svg", "svg"),
    ];
    if let Some((.., kind)) = MAGIC.iter().find(|(place, magic, _)| at(*place, magic)) {
        return Content::Unsupported(kind);
    }
    match Format::of(start) {
        // Two letters are few: a BMP goes on with the size of its header.
        Some(Format::Bmp) if !matches!(start.get(14..18), Some([12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])) => {
            Content::Other
        }
        Some(_) => Content::Image,
        None => Content::Other,
    }
}

/// What to do about a file that is of a format that is not read by its name.
pub(crate) fn advice_of_name(name: &str) -> Option<&'static str> {
    let extension = Path::new(name).extension()?.to_str()?.to_ascii_lowercase();
    advice(&extension)
}

fn advice(extension: &str) -> Option<&'static str> {
    UNSUPPORTED.iter().find(|(extensions, _)| extensions.contains(&extension)).map(|(_, advice)| *advice)
}

/// What a file is that is no image that can be read, by its first bytes, and what to do about it.
pub(crate) fn told(start: &[u8]) -> Option<String> {
    let start = &start[..start.len().min(START)];
    if let Content::Unsupported(kind) = content(start) {
        let name = if kind == "dcm" { "DICOM".into() } else { kind.to_ascii_uppercase() };
        return advice(kind).map(|advice| format!("but {name} by its content, which is {advice}"));
    }
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start().to_ascii_lowercase();
    let begins = |with: &[&str]| with.iter().any(|with| text.starts_with(with.as_bytes()));
    if begins(&["<!doctype html", "<html", "<head", "<body"]) {
        return Some("but a page of HTML, as failed downloads leave it; fetch it again".into());
    }
    if begins(&["version https://git-lfs"]) {
        return Some("but a pointer of Git LFS to the file; fetch it by: git lfs pull".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_tells_what_a_file_is() {
        let mut dicom = vec![0; 128];
        dicom.extend(b"DICM");
        let bmp = [&b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0"[..], &[40, 0, 0, 0]].concat();
        for (start, expected) in [
            (&b"\xff\xd8\xff\xe0"[..], Content::Image),
            (b"\x89PNG\r\n", Content::Image),
            (&bmp, Content::Image),
            (b"BMW is no picture but a text", Content::Other),
            (b"\0\0\0\x18ftypheic\0\0", Content::Unsupported("heic")),
            (b"\0\0\0\x18ftypavif\0\0", Content::Unsupported("avif")),
            (b"\0\0\0\x18ftypisom\0\0", Content::Other),
            (b"II*\0\x10\0\0\0CR\x02\0", Content::Unsupported("cr2")),
            (b"II*\0\x08\0\0\0", Content::Image),
            (&dicom, Content::Unsupported("dcm")),
            (b"", Content::Other),
        ] {
            assert_eq!(content(start), expected, "{start:?}");
        }
    }

    #[test]
    fn a_wrong_name_does_not_hide_the_format() {
        let mut dicom = vec![0; 128];
        dicom.extend(b"DICM");
        for (start, expected) in [
            (&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], "but HEIC by its content, which is not supported; convert"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1miaf", "but AVIF by its content"),
            (b"GIF89a", "but GIF by its content"),
            (&dicom, "but DICOM by its content, which is not supported; export"),
            (b"\n <!DOCTYPE html><title>404", "a page of HTML"),
            (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ] {
            let error = crate::Decoding::default().image(start).unwrap_err();
            assert!(
                error.starts_with("not a JPEG, PNG, WebP, BMP or TIFF file, ") && error.contains(expected),
                "{error}"
            );
        }
        assert_eq!(told(b"a text"), None);
        assert!(advice_of_name("a/IMG_1.HEIC").is_some() && advice_of_name("notes.txt").is_none());
    }
}
