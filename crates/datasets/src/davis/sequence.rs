//! The frames and masks of one sequence.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use super::names::{FRAMES, files, natural, others};
use crate::Error;
use crate::decode::Seen;

/// Names of files that are told at once.
const NAMED: usize = 5;

/// A sequence of frames and masks, looked at when it is first asked for.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    /// Name of the sequence.
    pub(super) name: String,
    /// The folder of the frames.
    pub(super) frames: PathBuf,
    /// The folders that may have the masks, the first that exists has them.
    pub(super) masks: Vec<PathBuf>,
    pub(super) listed: OnceLock<Files>,
    /// What was left out of the frames that were decoded.
    pub(super) seen: Arc<Mutex<Seen>>,
}

/// The files of a sequence.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// At least one.
    pub(super) frames: Vec<PathBuf>,
    /// As long as `frames`, the first is there.
    pub(super) masks: Vec<Option<PathBuf>>,
    /// What else there is, counted and named.
    pub(super) notes: Vec<String>,
}

impl Sequence {
    /// The files, listed once. A failure is not kept: it may be gone the next time.
    pub(super) fn files(&self) -> Result<&Files, Error> {
        if let Some(listed) = self.listed.get() {
            return Ok(listed);
        }
        let listed = self.list()?;
        Ok(self.listed.get_or_init(|| listed))
    }

    fn list(&self) -> Result<Files, Error> {
        // PNG files beside frames of other formats are their masks where no folder has those.
        let apart: Vec<_> = self.masks.iter().filter(|folder| **folder != self.frames).collect();
        let apart = apart.iter().find(|folder| folder.is_dir());
        let mut frames = files(&self.frames, FRAMES)?;
        let beside = apart.is_none()
            && self.masks.contains(&self.frames)
            && frames.iter().any(|path| !is_png(path))
            && frames.iter().any(|path| is_png(path));
        if beside {
            frames.retain(|path| !is_png(path));
        }
        frames.sort_by(|a, b| natural(stem(a), stem(b)));
        let first = frames
            .first()
            .ok_or_else(|| Error::layout(&self.frames, format!("no frames ({}) in it", FRAMES.join(", "))))?;
        // Such frames are neighbours: their names differ in the extension alone.
        if let Some([a, b]) = frames.windows(2).find(|pair| stem(&pair[0]) == stem(&pair[1])) {
            return Err(Error::layout(a, format!("is the same frame as {}; remove one of them", b.display())));
        }
        let mixed = frames.iter().any(|path| !is_png(path));
        let folders: Vec<_> = self.masks.iter().filter(|folder| mixed || **folder != self.frames).collect();
        let no_mask = |path: &Path| {
            let expected: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
            let (name, frame, expected) = (stem(first).display(), first.display(), expected.join(" or "));
            Error::layout(path, format!("no mask {name}.png of the first frame, {frame}; it is expected in {expected}"))
        };
        let folder = apart.copied().or(beside.then_some(&self.frames)).ok_or_else(|| no_mask(&self.frames))?;
        let mut by_stem = BTreeMap::new();
        for path in files(folder, &["png"])? {
            if let Some(other) = by_stem.insert(stem(&path).to_owned(), path.clone()) {
                let reason = format!("is the mask of the same frame as {}; remove one of them", other.display());
                return Err(Error::layout(&path, reason));
            }
        }
        let masks: Vec<_> = frames.iter().map(|frame| by_stem.remove(stem(frame))).collect();
        let left: Vec<PathBuf> = by_stem.into_values().collect();
        if beside && !left.is_empty() {
            let reason = format!(
                "{} of the PNG files have no frame of another format beside them ({}): if they are frames, put the masks \
                 into a folder masks/{}",
                left.len(),
                some_files(&left),
                self.name
            );
            return Err(Error::layout(folder, reason));
        }
        if !matches!(masks.first(), Some(Some(_))) {
            return Err(no_mask(folder));
        }
        let mut notes = Vec::new();
        let mut note = |paths: &[PathBuf], what: &str| {
            if !paths.is_empty() {
                notes.push(format!("{} {what}: {}", paths.len(), some_files(paths)));
            }
        };
        note(&left, &format!("of the masks in {} have no frame and are not used", folder.display()));
        note(&others(&self.frames, FRAMES)?, &format!("of the files in {} are no frames", self.frames.display()));
        if folder != &self.frames {
            note(&others(folder, &["png"])?, &format!("of the files in {} are no masks", folder.display()));
        }
        Ok(Files { frames, masks, notes })
    }

    /// Refuses a frame that does not exist.
    fn missing(&self, index: usize, frames: usize) -> Error {
        Error::Missing {
            what: format!("frame {index} in {}", self.name),
            valid: format!("it has {frames}, counted from 0"),
        }
    }

    /// The file of a frame, and its mask if there is one.
    pub(super) fn at(&self, index: usize) -> Result<(&Path, Option<&Path>), Error> {
        let Files { frames, masks, .. } = self.files()?;
        match (frames.get(index), masks.get(index)) {
            (Some(frame), Some(mask)) => Ok((frame, mask.as_deref())),
            _ => Err(self.missing(index, frames.len())),
        }
    }
}

fn is_png(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"))
}

/// The first of some files by name.
fn some_files(paths: &[PathBuf]) -> String {
    let mut names: Vec<_> = paths.iter().filter_map(|path| path.file_name()).map(OsStr::to_string_lossy).collect();
    names.sort();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    names.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

/// The name of a file without its extension.
pub(super) fn stem(path: &Path) -> &OsStr {
    path.file_stem().unwrap_or_default()
}
