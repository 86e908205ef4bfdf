//! Images below a folder, found once and decoded when asked for.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Content, ImageSource, Stamp, classes_of, no_image};
use crate::Error;
use crate::decode::Format;
use crate::file::contents;

/// Every image below a folder, at any depth, with or without class folders, sorted by path.
///
/// Hidden files and folders are skipped. Symbolic links are followed; a folder that is reached
/// twice is read once, so links cannot form a loop. Where all images lie in folders of the root, those
/// folders are the classes.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    root: PathBuf,
    files: Vec<PathBuf>,
    classes: Vec<String>,
    labels: Vec<Option<u32>>,
}

impl ImageFolder {
    /// Lists the images below `path`. Refuses a missing path, a file, and a folder without images.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let root = path.as_ref().to_path_buf();
        let kind = fs::metadata(&root).map_err(|e| Error::io(&root, e))?;
        if !kind.is_dir() {
            let reason = "this is a file, but a folder of images was expected";
            return Err(Error::layout(&root, reason));
        }
        let files = files_below(&root, is_image)?;
        if files.is_empty() {
            let reason = "no images (jpg, jpeg, png, webp, bmp, tif, tiff) in or below it";
            return Err(Error::layout(&root, reason));
        }
        Ok(Self::of(root, files))
    }

    /// These files below `root`.
    pub(super) fn of(root: PathBuf, files: Vec<PathBuf>) -> Self {
        let class = |file: &PathBuf| {
            let mut parts = file.strip_prefix(&root).ok()?.components();
            let first = parts.next()?;
            parts.next().map(|_| first.as_os_str().to_string_lossy().into_owned())
        };
        let mut texts: Vec<Option<String>> = files.iter().map(class).collect();
        if texts.iter().any(Option::is_none) {
            texts.fill(None);
        }
        let (classes, labels) = classes_of(&texts);
        Self { root, files, classes, labels }
    }

    /// Paths of the images, in the order of their indices.
    pub fn paths(&self) -> &[PathBuf] {
        &self.files
    }
}

impl ImageSource for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, index: usize) -> String {
        match self.files.get(index) {
            Some(path) => path.strip_prefix(&self.root).unwrap_or(path).display().to_string(),
            None => format!("image {index}"),
        }
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied().flatten()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn stamp(&self, index: usize) -> Option<Stamp> {
        Stamp::of(self.files.get(index)?)
    }

    fn read(&self, index: usize) -> Result<Content, Error> {
        let path = self.files.get(index).ok_or_else(|| no_image(index, self.files.len()))?;
        Ok(Content::File(contents(path)?))
    }
}

/// The deepest folder that all `files` lie below.
pub(super) fn common_folder(files: &[PathBuf]) -> &Path {
    let parents = || files.iter().filter_map(|f| f.parent());
    let common = parents().next().and_then(|first| first.ancestors().find(|a| parents().all(|p| p.starts_with(a))));
    common.unwrap_or(Path::new(""))
}

/// Visible files below `root` that are `wanted` by name, sorted.
pub(super) fn files_below(root: &Path, wanted: fn(&Path) -> bool) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let real = fs::canonicalize(&folder).map_err(|e| Error::io(&folder, e))?;
        if !seen.insert(real) {
            continue;
        }
        let mut inside = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))? {
            let entry = entry.map_err(|e| Error::io(&folder, e))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let mut kind = entry.file_type().map_err(|e| Error::io(&path, e))?;
            if kind.is_symlink() {
                kind = match fs::metadata(&path) {
                    Ok(target) => target.file_type(),
                    Err(_) if !wanted(&path) => continue,
                    // A link to nowhere is a bad image, not the end of all of them.
                    Err(_) => {
                        files.push(path);
                        continue;
                    }
                };
            }
            if kind.is_dir() {
                inside.push(path);
            } else if kind.is_file() && wanted(&path) {
                files.push(path);
            }
        }
        // Depth first in sorted order: which of two links to one folder wins is then fixed.
        inside.sort_by(|a, b| b.cmp(a));
        folders.append(&mut inside);
    }
    files.sort();
    Ok(files)
}

/// Whether the extension, in any case, is one of an image; what a file holds is decided by its content.
pub(super) fn is_image(path: &Path) -> bool {
    Format::of_name(&path.to_string_lossy()).is_some()
}
