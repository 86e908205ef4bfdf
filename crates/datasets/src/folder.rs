//! Images below a folder, found once and decoded when asked for.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::source::no_image;
use crate::{Error, ImageSource, Rgb, decode};

/// Extensions of the files that count as images; what they hold is decided by their content.
const EXTENSIONS: [&str; 7] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff"];

/// Every image below a folder, at any depth, with or without class folders, sorted by path.
///
/// Hidden files and folders are skipped. Symbolic links are followed; a folder that is reached
/// twice is read once, so links cannot form a loop.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    root: PathBuf,
    files: Vec<PathBuf>,
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
        let mut files = images_below(&root)?;
        if files.is_empty() {
            let reason = format!("no images ({}) in or below it", EXTENSIONS.join(", "));
            return Err(Error::layout(&root, reason));
        }
        files.sort();
        Ok(Self { root, files })
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

    fn load(&self, index: usize) -> Result<Rgb, Error> {
        let path = self.files.get(index).ok_or_else(|| no_image(index, self.files.len()))?;
        decode(path)
    }
}

/// Visible image files below `root`, in no particular order.
fn images_below(root: &Path) -> Result<Vec<PathBuf>, Error> {
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
                    Err(_) if !is_image(&path) => continue,
                    Err(e) => return Err(Error::io(&path, e)),
                };
            }
            if kind.is_dir() {
                inside.push(path);
            } else if kind.is_file() && is_image(&path) {
                files.push(path);
            }
        }
        // Depth first in sorted order: which of two links to one folder wins is then fixed.
        inside.sort_by(|a, b| b.cmp(a));
        folders.append(&mut inside);
    }
    Ok(files)
}

/// Whether the extension, in any case, is one of an image.
fn is_image(path: &Path) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(e)))
}
