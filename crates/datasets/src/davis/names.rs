//! Names of files and folders, and their order.

use std::cmp::Ordering;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;

/// Extensions of frames: every format that is decoded.
pub(super) const FRAMES: &[&str] = &["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "tif", "tiff"];

/// Paths of what is visible in `folder`, unordered.
fn visible(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

/// Visible files with one of `extensions` directly in `folder`, unordered.
pub(super) fn files(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let mut paths = visible(folder)?;
    paths.retain(|path| has_one_of(path, extensions));
    Ok(paths)
}

/// Visible files with none of `extensions` directly in `folder`, unordered; folders do not count.
pub(super) fn others(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let mut paths = visible(folder)?;
    paths.retain(|path| !has_one_of(path, extensions) && !path.is_dir());
    Ok(paths)
}

fn has_one_of(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    extensions.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// Names of the visible folders directly in `folder`, sorted.
pub(super) fn folders(folder: &Path) -> Result<Vec<OsString>, Error> {
    let mut paths = visible(folder)?;
    paths.retain(|path| path.is_dir());
    let mut names: Vec<_> = paths.iter().filter_map(|path| path.file_name()).map(OsStr::to_owned).collect();
    // What macOS puts into archives beside their content.
    names.retain(|name| name != "__MACOSX");
    names.sort();
    Ok(names)
}

/// The order in which digits within names count as numbers: 9 comes before 10, and `f9` before `f10`.
pub fn natural(a: &OsStr, b: &OsStr) -> Ordering {
    let (mut a_runs, mut b_runs) = (runs(a), runs(b));
    loop {
        match (a_runs.next(), b_runs.next()) {
            (Some(x), Some(y)) if compare(x, y).is_eq() => {}
            (Some(x), Some(y)) => return compare(x, y),
            (None, None) => return a.cmp(b), // they differ in leading zeros alone, if at all
            (x, y) => return x.cmp(&y),      // the shorter one first
        }
    }
}

/// The parts of a name, in turn of digits alone and without any.
fn runs(name: &OsStr) -> impl Iterator<Item = &[u8]> {
    name.as_encoded_bytes().chunk_by(|x, y| x.is_ascii_digit() == y.is_ascii_digit())
}

fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let is_number = |run: &[u8]| run.first().is_some_and(u8::is_ascii_digit);
    if !is_number(a) || !is_number(b) {
        return a.cmp(b);
    }
    let (a, b) = (significant(a), significant(b));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Digits without leading zeros.
fn significant(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    &digits[zeros..]
}
