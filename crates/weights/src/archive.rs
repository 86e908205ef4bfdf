//! The zip container of a `.pth` file: accepts only what `torch.save` writes, and checks every byte.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use crate::{WeightsError, open_file};

/// Size of the read buffer in bytes, large to save seeks and reads on files of hundreds of megabytes.
const BUFFER: usize = 1 << 17;

/// An open archive whose entries are all stored, plainly named and intact.
pub(crate) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    path: PathBuf,
    entries: BTreeMap<String, usize>,
}

impl Archive {
    /// Opens `path` and reads it through once to verify the CRC-32 of every entry.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let io = |action| move |source| WeightsError::Io { path: path.to_path_buf(), action, source };
        let file = open_file(path).map_err(io("open"))?;
        let length = file.metadata().map_err(io("examine"))?.len();
        // Left to itself the zip reader guesses whether something stands before the archive, and guesses wrong where
        // the first entry of the directory is as long as the two records that end a large archive.
        let at_the_start = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(at_the_start, BufReader::with_capacity(BUFFER, file))
            .map_err(|e| refused(path, e.to_string()))?;
        let mut archive = Self { zip, path: path.to_path_buf(), entries: BTreeMap::new() };
        let entries = archive.check_directory(length)?;
        for (name, &index) in &entries {
            archive.check_bytes(index, name)?;
        }
        archive.entries = entries;
        Ok(archive)
    }

    /// The names of all entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The bytes of one entry, or `None` if there is no entry of that name.
    pub fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>, WeightsError> {
        let Some(&index) = self.entries.get(name) else {
            return Ok(None);
        };
        let path = &self.path;
        let entry = self.zip.by_index(index).map_err(|e| damaged(path, name, e.to_string()))?;
        let size =
            usize::try_from(entry.size()).map_err(|_| damaged(path, name, "larger than the address space".into()))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|e| damaged(path, name, e.to_string()))?;
        entry
            .take(size as u64 + 1) // one more, so that the reader meets the end and checks the CRC
            .read_to_end(&mut bytes)
            .map_err(|e| damaged(path, name, e.to_string()))?;
        if bytes.len() != size {
            return Err(damaged(path, name, format!("{} of {size} bytes", bytes.len())));
        }
        Ok(Some(bytes))
    }

    /// Refuses compressed, encrypted, oddly named and overlapping entries; returns the index of each entry by name.
    fn check_directory(&mut self, length: u64) -> Result<BTreeMap<String, usize>, WeightsError> {
        let path = &self.path;
        let mut entries = BTreeMap::new();
        let mut total = 0u64;
        for index in 0..self.zip.len() {
            let entry = self.zip.by_index_raw(index).map_err(|e| refused(path, e.to_string()))?;
            let name = match entry.name() {
                Ok(name) => name.into_owned(),
                Err(e) => return Err(refused(path, e.to_string())),
            };
            if !is_plain(&name) {
                return Err(refused(path, format!("unsafe entry name {name:?}")));
            }
            if entry.encrypted() {
                return Err(refused(path, format!("entry `{name}` is encrypted")));
            }
            if entry.compression() != CompressionMethod::Stored {
                return Err(WeightsError::Compressed { path: path.clone(), entry: name });
            }
            if entry.size() != entry.compressed_size() {
                return Err(damaged(path, &name, "two different sizes".into()));
            }
            total = total.saturating_add(entry.size());
            if entries.insert(name.clone(), index).is_some() {
                return Err(refused(path, format!("two entries named `{name}`")));
            }
        }
        if total > length {
            return Err(refused(path, format!("entries of {total} bytes in a file of {length}")));
        }
        Ok(entries)
    }

    /// Reads one entry to its end; the zip reader compares the CRC-32 there.
    fn check_bytes(&mut self, index: usize, name: &str) -> Result<(), WeightsError> {
        let path = &self.path;
        let mut entry = self.zip.by_index(index).map_err(|e| damaged(path, name, e.to_string()))?;
        let expected = entry.size();
        let read = std::io::copy(&mut entry, &mut std::io::sink()).map_err(|e| damaged(path, name, e.to_string()))?;
        if read != expected {
            return Err(damaged(path, name, format!("{read} of {expected} bytes")));
        }
        Ok(())
    }
}

/// Whether `name` is a relative path without `..` or control characters. (Nothing is ever extracted; a name that
/// could escape a folder only shows that `torch.save` did not write the file.)
fn is_plain(name: &str) -> bool {
    let separator = ['/', '\\'];
    !name.starts_with(separator) && !name.contains(char::is_control) && name.split(separator).all(|part| part != "..")
}

fn refused(path: &Path, reason: String) -> WeightsError {
    WeightsError::Archive { path: path.to_path_buf(), reason }
}

fn damaged(path: &Path, entry: &str, reason: String) -> WeightsError {
    WeightsError::Damaged { path: path.to_path_buf(), entry: entry.to_string(), reason }
}
