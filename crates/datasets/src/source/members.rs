//! What is in a tar file: the images with their places, the texts of classes, and all that is left out.

use super::left::{LeftOut, promises_nothing};
use crate::Error;
use crate::decode::Format;
use crate::decode::foreign::{self, START};
use crate::file::{opened, utf8};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use tar::{Archive, Entry, EntryType, GnuExtSparseHeader, GnuSparseHeader};

/// Longest text of a class.
const MAX_CLASS: u64 = 4096;

/// Most bytes of headers and long names before an entry.
const MAX_NAMES: usize = 1 << 20;

/// A block of a tar file.
const BLOCK: u64 = 512;

/// Where the bytes of a file are in its tar file.
#[derive(Clone, Debug)]
pub(super) enum Data {
    Whole {
        start: u64,
        len: u64,
    },
    /// A file with holes, which are zeros: `size` bytes, and those that are stored.
    Sparse {
        size: u64,
        parts: Arc<[Part]>,
    },
}

/// Bytes of a file with holes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Place in the file.
    at: u64,
    /// Place in the tar file.
    start: u64,
    len: u64,
}

impl Data {
    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        match self {
            Self::Whole { len, .. } => *len,
            Self::Sparse { size, .. } => *size,
        }
    }

    /// The bytes of the file from the tar file, or how many of how many stored ones there are. The caller has seen to
    /// it that so many may be held in memory.
    pub fn read(&self, tar: &Path) -> io::Result<Result<Vec<u8>, (u64, u64)>> {
        let mut file = File::open(tar)?;
        let mut stored = |start: u64, len: u64| -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(start))?;
            (&mut file).take(len).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let (bytes, have, want) = match self {
            Self::Whole { start, len } => {
                let bytes = stored(*start, *len)?;
                let have = bytes.len() as u64;
                (bytes, have, *len)
            }
            Self::Sparse { size, parts } => {
                let (mut bytes, mut have) = (vec![0; *size as usize], 0);
                for Part { at, start, len } in parts.iter() {
                    let part = stored(*start, *len)?;
                    // Within the file: seen to when the parts were listed.
                    bytes[*at as usize..][..part.len()].copy_from_slice(&part);
                    have += part.len() as u64;
                }
                (bytes, have, parts.iter().map(|part| part.len).sum())
            }
        };
        Ok(if have == want { Ok(bytes) } else { Err((have, want)) })
    }
}

/// The images of a tar file.
#[derive(Default)]
pub(super) struct Members {
    /// In the order in which their names come first.
    pub images: Vec<(String, Data)>,
    /// By what the files of a sample have in common: the class, or why it cannot be read.
    pub classes: HashMap<String, Result<String, String>>,
}

/// What the files of a sample have in common: the name up to its first dot.
pub(super) fn key(name: &str) -> &str {
    let base = name.rfind('/').map_or(0, |i| i + 1);
    name[base..].find('.').map_or(name, |i| &name[..base + i])
}

/// A file so far.
struct Seen {
    data: Data,
    image: bool,
}

/// Lists a tar file as it would be unpacked: hard links are files, of several files of one name the last counts, holes
/// are zeros. What is left out is told to `left`, by names that begin with `prefix`.
pub(super) fn members(path: &Path, prefix: &str, left: &mut LeftOut) -> Result<Members, Error> {
    let fail = |e: io::Error| {
        let hint = unpacking(path).map_or(String::new(), |with| {
            format!("; it is compressed, give what this makes: {with} < {} > UNPACKED.tar", path.display())
        });
        Error::layout(path, format!("cannot be read as a tar file: {e}{hint}"))
    };
    let full = |name: &str| format!("{prefix}{name}");
    let (budget, ended) = (Cell::new(MAX_NAMES), Cell::new(false));
    let mut archive = Archive::new(Metered { file: BufReader::new(opened(path)?), left: &budget, ended: &ended });
    let mut files: HashMap<String, Seen> = HashMap::new();
    let (mut images, mut others) = (Vec::new(), Vec::new());
    let mut texts: HashMap<String, Result<String, String>> = HashMap::new();
    for entry in archive.entries_with_seek().map_err(fail)? {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(_) if ended.get() && !files.is_empty() => break, // cut off: told below
            Err(e) => return Err(fail(e)),
        };
        budget.set(MAX_NAMES);
        let extensions = Extensions::of(&mut entry).map_err(fail)?;
        let raw = match &extensions.name {
            Some(name) => name.clone(),
            None => text(&entry.path_bytes()),
        };
        let Some(name) = plain(&raw) else {
            left.passed("members whose name leads out of the archive", &full(&raw));
            continue;
        };
        if name.is_empty() || raw.ends_with('/') || name.split('/').any(|part| part.starts_with('.')) {
            continue; // a folder, or hidden
        }
        let (data, target) = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                (data(&mut entry, path, &extensions).map_err(fail)?, None)
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().map(|t| text(&t));
                let target = target.and_then(|t| plain(&t)).unwrap_or_default();
                match files.get(&target) {
                    Some(seen) => (seen.data.clone(), Some(target)),
                    None => {
                        left.passed("hard links to nothing that comes before them", &full(&name));
                        continue;
                    }
                }
            }
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            EntryType::Symlink => {
                left.passed("symbolic links, which lead nowhere in a tar file", &full(&name));
                continue;
            }
            EntryType::Fifo | EntryType::Char | EntryType::Block => {
                left.passed("named pipes and devices", &full(&name));
                continue;
            }
            _ => {
                left.passed("members of an unknown type", &full(&name));
                continue;
            }
        };
        let mut image = Format::of_name(&name).is_some();
        if name.to_ascii_lowercase().ends_with(".cls") {
            let text = match &target {
                Some(target) => texts.get(target).cloned().unwrap_or_else(|| Err("is a link to no class".into())),
                None => class(&mut entry).map_err(fail)?,
            };
            texts.insert(name.clone(), text);
        } else if !image {
            let content = match (&target, promises_nothing(&name)) {
                (_, false) => None,
                (Some(target), true) => files.get(target).map(|seen| match seen.image {
                    true => foreign::Content::Image,
                    false => foreign::Content::Other,
                }),
                (None, true) => {
                    let mut start = Vec::new();
                    (&mut entry).take(START as u64).read_to_end(&mut start).map_err(fail)?;
                    Some(foreign::content(&start))
                }
            };
            image = content == Some(foreign::Content::Image);
            if !image {
                others.push((name.clone(), content));
            }
        }
        match files.insert(name.clone(), Seen { data, image }) {
            Some(earlier) => {
                left.passed("members whose name comes again, where the last counts", &full(&name));
                // What comes again keeps its place.
                if image && !earlier.image {
                    images.push(name);
                }
            }
            None if image => images.push(name),
            None => {}
        }
    }
    if goes_on(archive.into_inner()).map_err(fail)? {
        let what =
            "tar files with more behind their end, which is not read (as cat makes of several; give them one by one)";
        left.passed(what, &path.display().to_string());
    }
    if ended.get() {
        left.passed("tar files that are cut off: they end without the mark of the end", &path.display().to_string());
    }
    let mut named = Vec::with_capacity(images.len());
    for name in images {
        if let Some(Seen { data, image: true }) = files.remove(&name) {
            named.push((name, data));
        }
    }
    let keys: HashSet<&str> = named.iter().map(|(name, _)| key(name)).collect();
    // Texts beside an image belong to it, and nobody expects pixels of them.
    for (name, content) in others.iter().filter(|(name, content)| content.is_some() || !keys.contains(key(name))) {
        left.file(&full(name), *content);
    }
    let mut classes = HashMap::new();
    for (name, text) in texts {
        let text = text.map_err(|reason| format!("{}: {reason}", full(&name)));
        if let Err(fault) = &text {
            left.passed("classes that cannot be read", fault);
        }
        classes.insert(key(&name).to_string(), text);
    }
    Ok(Members { images: named, classes })
}

/// Bytes of an archive that are looked at behind its end.
const BEHIND: u64 = 1 << 24;

/// Whether something follows the end of an archive.
fn goes_on(rest: Metered) -> io::Result<bool> {
    let mut bytes = Vec::new();
    rest.file.take(BEHIND).read_to_end(&mut bytes)?;
    Ok(bytes.iter().any(|byte| *byte != 0))
}

/// A name as text. What is not UTF-8 is written as `\\xE9`, so that names that differ stay different.
fn text(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text += chunk.valid();
        chunk.invalid().iter().for_each(|byte| text += &format!("\\x{byte:02X}"));
    }
    text
}

/// A name without dots and slashes that mean nothing, as `tar` unpacks it; none if it leads out.
fn plain(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    (!parts.contains(&"..")).then(|| parts.join("/"))
}

/// The text of a class, or why there is none.
fn class(entry: &mut impl Read) -> io::Result<Result<String, String>> {
    let mut bytes = Vec::new();
    entry.take(MAX_CLASS + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_CLASS {
        return Ok(Err(format!("is longer than the {MAX_CLASS} bytes of a class")));
    }
    // Without guessing at other encodings: what is no UTF-8 is hardly a class.
    Ok(utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes)).map(|text| text.trim().to_string()))
}

/// Where the bytes of a file are.
fn data<R: Read>(entry: &mut Entry<R>, path: &Path, extensions: &Extensions) -> io::Result<Data> {
    if entry.header().entry_type() == EntryType::GNUSparse {
        let (blocks, start) = gnu_blocks(entry, path)?;
        return sparse(entry.size(), start, &blocks);
    }
    let start = entry.raw_file_position();
    let len = entry.size();
    let Some(size) = extensions.size else { return Ok(Data::Whole { start, len }) };
    if !extensions.blocks_inside {
        return sparse(size, start, &extensions.blocks);
    }
    // Numbers on lines of their own: how many blocks, then place and length of each; filled up to a block.
    let mut read = 0;
    let mut number = || -> io::Result<u64> {
        let mut value = 0_u64;
        loop {
            let mut byte = [0];
            entry.read_exact(&mut byte)?;
            read += 1;
            match byte[0] {
                b'\n' => return Ok(value),
                digit @ b'0'..=b'9' => {
                    let next = value.checked_mul(10).and_then(|v| v.checked_add(u64::from(digit - b'0')));
                    value = next.ok_or_else(broken)?;
                }
                _ => return Err(broken()),
            }
        }
    };
    let count = number()?;
    let mut blocks = Vec::new();
    for _ in 0..count {
        blocks.push((number()?, number()?));
    }
    sparse(size, start + u64::next_multiple_of(read, BLOCK), &blocks)
}

/// Blocks (place, length) of a file of `size` bytes that lie one behind the other from `start` on.
fn sparse(size: u64, start: u64, blocks: &[(u64, u64)]) -> io::Result<Data> {
    let (mut end, mut start) = (0, start);
    let mut parts = Vec::with_capacity(blocks.len());
    for &(at, len) in blocks.iter().filter(|(_, len)| *len > 0) {
        if at < end {
            return Err(broken());
        }
        end = at.checked_add(len).filter(|end| *end <= size).ok_or_else(broken)?;
        parts.push(Part { at, start, len });
        start = start.checked_add(len).ok_or_else(broken)?;
    }
    Ok(Data::Sparse { size, parts: parts.into() })
}

fn broken() -> io::Error {
    io::Error::other("the list of the parts of a sparse file makes no sense")
}

/// Blocks of a sparse file in the old format of GNU tar, and where the first begins: the header lists some, more
/// follow it.
fn gnu_blocks<R: Read>(entry: &Entry<R>, path: &Path) -> io::Result<(Vec<(u64, u64)>, u64)> {
    let gnu = entry.header().as_gnu().ok_or_else(broken)?;
    let mut blocks = Vec::new();
    let mut add = |list: &[GnuSparseHeader]| -> io::Result<()> {
        for block in list.iter().filter(|block| !block.is_empty()) {
            blocks.push((block.offset()?, block.length()?));
        }
        Ok(())
    };
    add(&gnu.sparse)?;
    let mut start = entry.raw_header_position() + BLOCK;
    let mut more = gnu.is_extended();
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    while more {
        let mut header = GnuExtSparseHeader::new();
        file.read_exact(header.as_mut_bytes())?;
        add(header.sparse())?;
        start += BLOCK;
        more = header.is_extended();
    }
    Ok((blocks, start))
}

/// What the extended header of a file says of holes in it, in any of the formats of GNU tar.
#[derive(Default)]
struct Extensions {
    name: Option<String>,
    /// Size of the whole file.
    size: Option<u64>,
    blocks: Vec<(u64, u64)>,
    /// Whether the blocks are listed where the file begins.
    blocks_inside: bool,
}

impl Extensions {
    fn of<R: Read>(entry: &mut Entry<R>) -> io::Result<Self> {
        let mut all = Self::default();
        let Some(list) = entry.pax_extensions()? else { return Ok(all) };
        let mut numbers: Vec<u64> = Vec::new();
        for extension in list {
            let extension = extension?;
            let (Ok(key), Ok(value)) = (extension.key(), extension.value()) else { continue };
            let number = || value.parse::<u64>().map_err(|_| broken());
            match key {
                "GNU.sparse.name" => all.name = Some(value.into()),
                "GNU.sparse.realsize" | "GNU.sparse.size" => all.size = Some(number()?),
                "GNU.sparse.major" => all.blocks_inside = number()? > 0,
                "GNU.sparse.offset" | "GNU.sparse.numbytes" => numbers.push(number()?),
                "GNU.sparse.map" => {
                    let list: Result<_, _> = value.split(',').map(str::parse).collect();
                    numbers = list.map_err(|_| broken())?;
                }
                _ => {}
            }
        }
        all.blocks = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        Ok(all)
    }
}

/// A tar file of which little is read at once: the library holds names of any length in memory.
struct Metered<'a> {
    file: BufReader<File>,
    /// Bytes that may still be read.
    left: &'a Cell<usize>,
    /// Whether the end of the file was met.
    ended: &'a Cell<bool>,
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.left.get());
        if most == 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!("a name or header of more than {MAX_NAMES} bytes")));
        }
        let read = self.file.read(&mut buffer[..most])?;
        self.left.set(self.left.get() - read);
        self.ended.set(self.ended.get() || (read == 0 && most > 0));
        Ok(read)
    }
}

impl Seek for Metered<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// The program that unpacks a file, if it is compressed.
fn unpacking(path: &Path) -> Option<&'static str> {
    let mut start = [0; 4];
    File::open(path).and_then(|mut f| f.read_exact(&mut start)).ok()?;
    match start {
        [0x1f, 0x8b, ..] => Some("gunzip"),
        [b'B', b'Z', b'h', _] => Some("bunzip2"),
        [0xfd, b'7', b'z', b'X'] => Some("unxz"),
        [0x28, 0xb5, 0x2f, 0xfd] => Some("unzstd"),
        [0x04, 0x22, 0x4d, 0x18] => Some("unlz4"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{key, plain, text};

    #[test]
    fn names_that_are_not_utf_8_stay_different() {
        let names: [&[u8]; 3] = [b"\xe9.png", b"\xe8.png", "\u{e9}.png".as_bytes()];
        assert_eq!(names.map(text), [r"\xE9.png", r"\xE8.png", "\u{e9}.png"]);
    }

    #[test]
    fn a_key_ends_at_the_first_dot_of_the_file_name() {
        assert_eq!(key("a.b/c.seg.png"), "a.b/c");
        assert_eq!(key("a.b/c"), "a.b/c");
        assert_eq!(key("c.jpg"), "c");
    }

    #[test]
    fn a_name_is_that_of_the_unpacked_file() {
        assert_eq!(plain("./a//b.jpg").as_deref(), Some("a/b.jpg"));
        assert_eq!(plain("/a/./b.jpg").as_deref(), Some("a/b.jpg"));
        assert_eq!(plain("a/../../b.jpg"), None);
    }
}
