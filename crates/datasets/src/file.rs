//! Files whole in memory: images, none of which may fill it, and texts in whatever Unicode they are.

use crate::Error;
use std::fs::{self, File, FileType};
use std::io::Read;
use std::path::Path;

/// Longest image file that is read at all: 4 GiB, as long as a plain TIFF can be. The usual limit is that
/// of `Decoding`, for what has been read.
const MAX_BYTES: u64 = 1 << 32;

/// The contents of an image file.
pub(crate) fn contents(path: &Path) -> Result<Vec<u8>, Error> {
    let file = opened(path)?;
    let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let size = admit(size).map_err(|reason| Error::decode(path, reason))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|e| Error::decode(path, format!("has {size} bytes: {e}")))?;
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    Ok(bytes)
}

/// The size of an image file that may be read.
pub(crate) fn admit(size: u64) -> Result<usize, String> {
    let allowed = usize::try_from(size).ok().filter(|_| size <= MAX_BYTES);
    allowed.ok_or_else(|| format!("has {size} bytes; of image files at most {MAX_BYTES} are read"))
}

/// A file, opened. Refuses what only looks like one: to open a named pipe would wait for a writer.
pub(crate) fn opened(path: &Path) -> Result<File, Error> {
    let kind = fs::metadata(path).map_err(|e| Error::io(path, e))?.file_type();
    match kind.is_file() {
        true => File::open(path).map_err(|e| Error::io(path, e)),
        false => Err(Error::layout(path, format!("is a {}, not a file", kind_of(kind)))),
    }
}

/// What a path leads to that is no file, in words.
pub(crate) fn kind_of(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "named pipe";
        }
        if kind.is_socket() {
            return "socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "device";
        }
    }
    if kind.is_dir() { "folder" } else { "special file" }
}

/// The contents of a text file, see [`unicode`].
pub(crate) fn text(path: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    opened(path)?.read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    unicode(&bytes).map_err(|reason| Error::layout(path, reason))
}

/// A text in UTF-8 or, where a byte-order mark says so, in UTF-16. The mark is no part of the text.
pub(crate) fn unicode(bytes: &[u8]) -> Result<String, String> {
    let words = |bytes: &[u8], of: fn([u8; 2]) -> u16| {
        let words: Vec<u16> = bytes.chunks_exact(2).map(|pair| of([pair[0], pair[1]])).collect();
        let whole = String::from_utf16(&words).ok().filter(|_| bytes.len().is_multiple_of(2));
        whole.ok_or_else(|| "begins as UTF-16 but is none; save it as UTF-8".to_string())
    };
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest),
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Err("is UTF-32; save it as UTF-8".into()),
        [0xff, 0xfe, rest @ ..] => words(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => words(rest, u16::from_be_bytes),
        _ => utf8(bytes),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    let line = |end: usize| 1 + bytes[..end].iter().filter(|byte| **byte == b'\n').count();
    match std::str::from_utf8(bytes) {
        Ok(text) => match text.find('\0') {
            Some(at) => Err(format!("is no text (line {} has a zero byte); save it as UTF-8", line(at))),
            None => Ok(text.to_owned()),
        },
        Err(e) => Err(format!("is not UTF-8 text (line {}); save it as UTF-8", line(e.valid_up_to()))),
    }
}

#[cfg(test)]
mod tests {
    use super::unicode;

    #[test]
    fn texts_are_unicode_with_or_without_a_mark() {
        let wide = |of: fn(u16) -> [u8; 2]| "\u{feff}Straße\n".encode_utf16().flat_map(of).collect::<Vec<u8>>();
        let all = ["Straße\n".into(), "\u{feff}Straße\n".into(), wide(u16::to_le_bytes), wide(u16::to_be_bytes)];
        for bytes in all as [Vec<u8>; 4] {
            assert_eq!(unicode(&bytes), Ok("Straße\n".into()), "{bytes:?}");
        }
        assert_eq!(unicode(b""), Ok(String::new()));
        for (bytes, expected) in [
            (&b"a\nStra\xdfe"[..], "is not UTF-8 text (line 2)"),
            (b"a\0b\0", "is no text (line 1"),
            (b"\xff\xfea\0b", "begins as UTF-16 but is none"),
            (b"\xff\xfe\0\0a\0\0\0", "is UTF-32"),
        ] {
            assert!(unicode(bytes).unwrap_err().contains(expected), "{bytes:?}");
        }
    }
}
