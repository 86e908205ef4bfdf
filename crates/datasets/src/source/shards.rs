//! Images in tar files, named as WebDataset does.

use super::folder::common_folder;
use super::{Content, ImageSource, Stamp, classes_of, no_image};
use crate::Error;
use crate::decode::Format;
use crate::file::admit;
use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tar::{Archive, EntryType};

/// Longest text of a class.
const MAX_CLASS: u64 = 4096;

/// Most bytes of headers and long names before an entry.
const MAX_NAMES: usize = 1 << 20;

/// Every image of some tar files, read in place. Files of a sample share what comes before the first
/// dot of their name: `0001.jpg` is of the class in `0001.cls`.
///
/// Only plain files count: links in a tar file lead nowhere, and nothing is unpacked.
#[derive(Clone, Debug)]
pub struct Shards {
    tars: Vec<PathBuf>,
    images: Vec<Entry>,
    classes: Vec<String>,
    labels: Vec<Option<u32>>,
}

#[derive(Clone, Debug)]
struct Entry {
    tar: usize,
    name: String,
    start: u64,
    len: u64,
}

impl Shards {
    /// Lists the images in `tars`. Refuses files that are no tar files and sets without images.
    pub fn open(tars: Vec<PathBuf>) -> Result<Self, Error> {
        let (mut images, mut texts) = (Vec::new(), Vec::new());
        for (number, path) in tars.iter().enumerate() {
            let first = images.len();
            let classes = index(path, number, &mut images)?;
            texts.extend(images[first..].iter().map(|e: &Entry| classes.get(key(&e.name)).cloned()));
        }
        if images.is_empty() {
            let path = tars.first().map_or(Path::new("tar"), PathBuf::as_path);
            return Err(Error::layout(path, "no images (jpg, png, webp, bmp, tif) in the tar files"));
        }
        let (classes, labels) = classes_of(&texts);
        Ok(Self { tars, images, classes, labels })
    }

    /// The same with names for classes that are numbers.
    #[cfg(feature = "parquet")]
    pub(super) fn with_class_names(mut self, names: &[String]) -> Self {
        let named = |c: &String| c.parse::<usize>().ok().and_then(|n| names.get(n)).unwrap_or(c).clone();
        self.classes = self.classes.iter().map(named).collect();
        self
    }
}

impl ImageSource for Shards {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn name(&self, index: usize) -> String {
        let Some(entry) = self.images.get(index) else { return format!("image {index}") };
        if self.tars.len() == 1 {
            return entry.name.clone();
        }
        let tar = &self.tars[entry.tar];
        let tar = tar.strip_prefix(common_folder(&self.tars)).unwrap_or(tar);
        format!("{}/{}", tar.display(), entry.name)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied().flatten()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn stamp(&self, index: usize) -> Option<Stamp> {
        let entry = self.images.get(index)?;
        Some(Stamp { bytes: entry.len, ..Stamp::of(&self.tars[entry.tar])? })
    }

    fn read(&self, index: usize) -> Result<Content, Error> {
        let entry = self.images.get(index).ok_or_else(|| no_image(index, self.images.len()))?;
        let path = &self.tars[entry.tar];
        admit(entry.len).map_err(|reason| Error::decode(Path::new(&self.name(index)), reason))?;
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(entry.start))?;
            let mut bytes = Vec::new();
            file.take(entry.len).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|e| Error::io(path, e))?;
        if bytes.len() as u64 != entry.len {
            let reason = format!("the tar file ends after {} of {} bytes", bytes.len(), entry.len);
            return Err(Error::decode(Path::new(&self.name(index)), reason));
        }
        Ok(Content::File(bytes))
    }
}

/// What the files of a sample have in common.
fn key(name: &str) -> &str {
    let base = name.rfind('/').map_or(0, |i| i + 1);
    name[base..].find('.').map_or(name, |i| &name[..base + i])
}

/// Adds the images of a tar file and returns the classes by key.
fn index(path: &Path, tar: usize, images: &mut Vec<Entry>) -> Result<HashMap<String, String>, Error> {
    let fail = |e: std::io::Error| {
        let hint =
            if compressed(path) { "; it is compressed, unpack it with gunzip, unzstd or unxz first" } else { "" };
        Error::layout(path, format!("cannot be read as a tar file: {e}{hint}"))
    };
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let left = Cell::new(MAX_NAMES);
    let mut archive = Archive::new(Metered { file: BufReader::new(file), left: &left });
    let mut classes = HashMap::new();
    for entry in archive.entries_with_seek().map_err(fail)? {
        let mut entry = entry.map_err(fail)?;
        left.set(MAX_NAMES);
        if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_string();
        if name.split('/').any(|part| part == ".." || part.starts_with('.')) {
            continue; // hidden, or of another folder
        }
        if Format::of_name(&name).is_some() {
            images.push(Entry { tar, start: entry.raw_file_position(), len: entry.size(), name });
        } else if name.ends_with(".cls") {
            let mut text = String::new();
            (&mut entry).take(MAX_CLASS).read_to_string(&mut text).map_err(fail)?;
            classes.insert(key(&name).to_string(), text.trim().to_string());
        }
    }
    Ok(classes)
}

/// A tar file of which little is read at once: the library holds names of any length in memory.
struct Metered<'a> {
    file: BufReader<File>,
    /// Bytes that may still be read.
    left: &'a Cell<usize>,
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(self.left.get());
        if most == 0 && !buffer.is_empty() {
            return Err(std::io::Error::other(format!("a name or header of more than {MAX_NAMES} bytes")));
        }
        let read = self.file.read(&mut buffer[..most])?;
        self.left.set(self.left.get() - read);
        Ok(read)
    }
}

impl Seek for Metered<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

fn compressed(path: &Path) -> bool {
    let mut start = [0; 4];
    let read = File::open(path).and_then(|mut f| f.read_exact(&mut start));
    read.is_ok() && matches!(start, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd] | [0xfd, b'7', b'z', b'X'])
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_key_ends_at_the_first_dot_of_the_file_name() {
        assert_eq!(super::key("a.b/c.seg.png"), "a.b/c");
        assert_eq!(super::key("a.b/c"), "a.b/c");
        assert_eq!(super::key("c.jpg"), "c");
    }
}
