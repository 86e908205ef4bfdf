//! What a source does not read, counted and named in one line.

use crate::decode::Format;
use std::collections::BTreeMap;
use std::path::Path;

/// Names that are told of each kind.
const NAMED: usize = 3;

/// Formats of images that are not read, by their extensions, and what to do about them.
const UNSUPPORTED: [(&[&str], &str); 3] = [
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
pub(super) enum Content {
    /// An image that can be read.
    Image,
    /// An image of a format that is not supported, with its usual extension.
    Unsupported(&'static str),
    /// Something else.
    Other,
}

/// As many first bytes tell what a file is.
pub(super) const START: usize = 132;

/// What begins with `start`, up to [`START`] bytes.
pub(super) fn content(start: &[u8]) -> Content {
    let at = |place: usize, text: &[u8]| start.get(place..).is_some_and(|rest| rest.starts_with(text));
    let brand = start.get(8..12).filter(|_| at(4, b"ftyp"));
    match brand {
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

/// Whether a name promises nothing about the content: `IMG_0001`, and `1.2.840.10008` as DICOM has them.
pub(super) fn promises_nothing(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or_default();
    extension.chars().all(|c| c.is_ascii_digit())
}

/// What is left out of a source, by kind.
#[derive(Clone, Debug, Default)]
pub(super) struct LeftOut {
    unsupported: BTreeMap<String, Named>,
    passed: BTreeMap<&'static str, Named>,
    others: BTreeMap<String, usize>,
}

/// How many, and the names of the first.
#[derive(Clone, Debug, Default)]
struct Named {
    count: usize,
    first: Vec<String>,
}

impl Named {
    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(name.into());
        }
    }

    fn names(&self) -> String {
        let more = if self.count > self.first.len() { ", ..." } else { "" };
        self.first.join(", ") + more
    }
}

impl LeftOut {
    /// A file called `name` that is no image by its name, nor by its content where that was looked at.
    pub fn file(&mut self, name: &str, content: Option<Content>) {
        let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let known = UNSUPPORTED.iter().any(|(extensions, _)| extensions.contains(&extension.as_str()));
        match content {
            Some(Content::Unsupported(kind)) => self.unsupported.entry(kind.into()).or_default().add(name),
            _ if known => self.unsupported.entry(extension).or_default().add(name),
            _ if content.is_some() => *self.others.entry("without extension".into()).or_default() += 1,
            _ => *self.others.entry(format!(".{extension}")).or_default() += 1,
        }
    }

    /// Something that is not read for the reason that `what` tells, in the plural.
    pub fn passed(&mut self, what: &'static str, name: &str) {
        self.passed.entry(what).or_default().add(name);
    }

    /// All of it in one line, if there is anything.
    pub fn text(&self) -> Option<String> {
        let mut parts = Vec::new();
        for (extensions, advice) in UNSUPPORTED {
            let of = self.unsupported.iter().filter(|(kind, _)| extensions.contains(&kind.as_str()));
            let list: Vec<String> = of.map(|(kind, n)| format!("{} .{kind} ({})", n.count, n.names())).collect();
            if !list.is_empty() {
                parts.push(format!("{}: {advice}", list.join(", ")));
            }
        }
        parts.extend(self.passed.iter().map(|(what, n)| format!("{} {what} ({})", n.count, n.names())));
        if !self.others.is_empty() {
            let list: Vec<String> = self.others.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            parts.push(format!("{} other files ({})", self.others.values().sum::<usize>(), list.join(", ")));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
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
    fn one_line_names_all_that_is_left_out() {
        let mut left = LeftOut::default();
        assert_eq!(left.text(), None);
        for i in 0..12 {
            left.file(&format!("IMG_{i}.HEIC"), None);
        }
        left.file("scan", Some(Content::Unsupported("dcm")));
        left.file("README", Some(Content::Other));
        left.file("notes.txt", None);
        left.passed("named pipes", "p.jpg");
        let text = left.text().unwrap();
        for part in [
            "12 .heic (IMG_0.HEIC, IMG_1.HEIC, IMG_2.HEIC, ...): not supported; convert",
            "1 .dcm (scan): ",
            "1 named pipes (p.jpg)",
            "2 other files (1 .txt, 1 without extension)",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
