//! The file that lists the images of a run.

use super::digest::digests;
use crate::{Error, replace_file};
use rayon::prelude::*;
use selfpatch_datasets::{ImageSource, Stamp};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Name of the inventory's file in the folder of a run.
pub(crate) const FILE: &str = "images.tsv";

/// First line of the file.
const HEADER: &str = "# selfpatch images 1: digest, bytes, time, name";

/// Most images that are read before training begins, to know or compare their bytes.
const MOST_READ: usize = 10_000;

/// Most bytes of images that are read before training begins.
const MOST_BYTES: u64 = 1 << 30;

/// An image as it was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub name: String,
    pub stamp: Option<Stamp>,
    /// Digest of the image's bytes, if they were read.
    pub digest: Option<u64>,
}

/// All images of a source in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    pub entries: Vec<Entry>,
}

impl Inventory {
    /// An inventory of a source as it is now; no image is read.
    pub fn of(source: &dyn ImageSource) -> Self {
        let entry = |index| Entry { name: source.name(index), stamp: source.stamp(index), digest: None };
        Self { entries: (0..source.len()).into_par_iter().map(entry).collect() }
    }

    /// The inventory of the run in `folder`; `None` where an older version kept none, or where the file is damaged.
    pub fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(FILE);
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io(&path))?,
        };
        let Ok(text) = String::from_utf8(bytes) else { return Ok(None) };
        let Some(lines) = text.strip_prefix(HEADER) else { return Ok(None) };
        let entries = lines.trim_start_matches('\n').lines().map(entry).collect::<Option<_>>();
        Ok(entries.map(|entries| Self { entries }))
    }

    /// Writes the inventory into the folder of a run, whole or not at all.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let mut text = format!("{HEADER}\n");
        for Entry { name, stamp, digest } in &self.entries {
            // Writing to a string cannot fail.
            let _ = match digest {
                Some(digest) => write!(text, "{digest:016x}"),
                None => write!(text, "-"),
            };
            let _ = match stamp {
                Some(stamp) => write!(text, "\t{}\t{}", stamp.bytes, stamp.time),
                None => write!(text, "\t-\t-"),
            };
            let _ = writeln!(text, "\t{}", escaped(name));
        }
        let path = folder.join(FILE);
        replace_file(&path, text.as_bytes()).map_err(Error::io(&path))
    }

    /// Reads images whose bytes are not known yet, as many as are quickly read, evenly spread.
    pub fn learn(&mut self, source: &dyn ImageSource) {
        let unknown: Vec<usize> = (0..self.entries.len()).filter(|&i| self.entries[i].digest.is_none()).collect();
        for (index, digest) in digests(source, &self.few(&unknown)) {
            self.entries[index].digest = digest;
        }
    }

    /// As many of `indices` as are quickly read, evenly spread.
    pub(super) fn few(&self, indices: &[usize]) -> Vec<usize> {
        let size = |&index: &usize| self.entries[index].stamp.map_or(0, |s| s.bytes);
        let bytes: u64 = indices.iter().map(size).fold(0, u64::saturating_add);
        let by_bytes = (indices.len() as f64 * (MOST_BYTES as f64 / bytes.max(1) as f64).min(1.)) as usize;
        let wanted = indices.len().min(MOST_READ).min(by_bytes);
        (0..wanted).map(|i| indices[i * indices.len() / wanted]).collect()
    }
}

/// The entry that a line of the file holds.
fn entry(line: &str) -> Option<Entry> {
    let mut fields = line.splitn(4, '\t');
    let digest = match fields.next()? {
        "-" => None,
        text => Some(u64::from_str_radix(text, 16).ok().filter(|&d| d > 0)?),
    };
    let stamp = match (fields.next()?, fields.next()?) {
        ("-", "-") => None,
        (bytes, time) => Some(Stamp { bytes: bytes.parse().ok()?, time: time.parse().ok()? }),
    };
    Some(Entry { name: unescaped(fields.next()?), stamp, digest })
}

/// A name escaped so that it fits on one line.
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}

fn unescaped(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        name.push(match c {
            '\\' => match rest.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            c => c,
        });
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_back_as_it_was_written() -> Result<(), Error> {
        let folder = tempfile::tempdir().map_err(Error::io("temporary folder"))?;
        let entry = |name: &str, stamp, digest| Entry { name: name.into(), stamp, digest };
        let list = Inventory {
            entries: vec![
                entry("a b\tc.png", Some(Stamp { bytes: 7, time: u64::MAX }), Some(u64::MAX)),
                entry("line\nof\\two\r", None, Some(1)),
                entry("", Some(Stamp { bytes: 0, time: 0 }), None),
            ],
        };
        assert_eq!(Inventory::read(folder.path())?, None);
        list.write(folder.path())?;
        assert_eq!(Inventory::read(folder.path())?, Some(list));
        for damaged in ["", "x", "# selfpatch images 1: digest, bytes, time, name\n12", "\u{0}"] {
            fs::write(folder.path().join(FILE), damaged).map_err(Error::io(FILE))?;
            assert_eq!(Inventory::read(folder.path())?, None, "{damaged}");
        }
        Ok(())
    }

    #[test]
    fn few_images_are_read_of_many() {
        let entry = |bytes| Entry { name: String::new(), stamp: Some(Stamp { bytes, time: 0 }), digest: None };
        let all = |count: usize, bytes| {
            let list = Inventory { entries: vec![entry(bytes); count] };
            list.few(&(0..count).collect::<Vec<_>>())
        };
        assert_eq!(all(3, 10), [0, 1, 2]);
        assert_eq!(all(100_000, 10).len(), MOST_READ);
        assert_eq!(all(64, 1 << 26), (0..16).map(|i| i * 4).collect::<Vec<_>>());
        assert!(all(0, 1).is_empty() && all(2, u64::MAX).is_empty());
    }
}
