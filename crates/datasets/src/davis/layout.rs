//! Finds out how a folder of videos is laid out.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::names::{FRAMES, files, folders};
use super::sequence::Sequence;
use crate::Error;
use crate::file::text;

const MASKS: &[&str] = &["png"];

/// Where frames and masks of a sequence are.
pub(super) enum Layout {
    /// `frames/NAME` and `masks/NAME`: DAVIS, YouTube-VOS.
    Apart { frames: PathBuf, masks: PathBuf },
    /// `root/NAME`.
    Plain { root: PathBuf },
}

impl Layout {
    /// The layout of `root`, or why it has none.
    pub(super) fn of(root: &Path, resolution: &str) -> Result<Self, Error> {
        let frames = root.join("JPEGImages");
        if frames.is_dir() {
            let frames = level(&frames, resolution, FRAMES)?;
            return Ok(Self::Apart { frames, masks: level(&root.join("Annotations"), resolution, MASKS)? });
        }
        let plain = Self::Plain { root: root.to_path_buf() };
        if plain.all()?.iter().any(|name| holds(&root.join(name), FRAMES)) {
            return Ok(plain);
        }
        Err(Error::layout(root, unknown(root)))
    }

    /// What names the sequences, and their names: a split, or all folders where there are no splits.
    pub(super) fn names(
        &self,
        root: &Path,
        year: &str,
        split: &str,
        resolution: &str,
    ) -> Result<(PathBuf, Vec<OsString>), Error> {
        let sets = root.join("ImageSets");
        if sets.is_dir() {
            return listed(&sets, year, split, resolution);
        }
        Ok((self.frames().to_path_buf(), self.all()?))
    }

    /// A sequence of this layout. It is not looked at.
    pub(super) fn sequence(&self, name: &OsStr) -> Sequence {
        let frames = self.frames().join(name);
        let masks = match self {
            Self::Apart { masks, .. } => vec![masks.join(name)],
            Self::Plain { root } => vec![
                root.join("Annotations").join(name),
                root.join("masks").join(name),
                frames.join("masks"),
                frames.clone(),
            ],
        };
        Sequence {
            name: name.to_string_lossy().into_owned(),
            frames,
            masks,
            listed: OnceLock::new(),
            seen: Arc::default(),
        }
    }

    fn frames(&self) -> &Path {
        match self {
            Self::Apart { frames, .. } => frames,
            Self::Plain { root } => root,
        }
    }

    /// Names of all folders that are sequences.
    fn all(&self) -> Result<Vec<OsString>, Error> {
        let mut names = folders(self.frames())?;
        if let Self::Plain { .. } = self {
            names.retain(|name| !["Annotations", "masks", "ImageSets"].iter().any(|other| name == other));
        }
        Ok(names)
    }
}

/// Whether there are files with one of `extensions` directly in `folder`.
fn holds(folder: &Path, extensions: &[&str]) -> bool {
    files(folder, extensions).is_ok_and(|found| !found.is_empty())
}

/// The folder of the sequences' folders: that of the resolution, if there is one, as in DAVIS, or `folder`
/// itself, as in YouTube-VOS.
fn level(folder: &Path, resolution: &str, extensions: &[&str]) -> Result<PathBuf, Error> {
    let inside = folders(folder)?;
    if inside.iter().any(|name| name == resolution) {
        return Ok(folder.join(resolution));
    }
    if inside.iter().any(|name| holds(&folder.join(name), extensions)) {
        return Ok(folder.to_path_buf());
    }
    let expected = format!("neither the resolution {resolution} nor folders of {} files in it", extensions.join(", "));
    let found = if inside.is_empty() { String::new() } else { format!(", but {}", some(&inside)) };
    Err(Error::layout(folder, expected + &found))
}

/// The sequences of a split, and its path.
fn listed(sets: &Path, year: &str, split: &str, resolution: &str) -> Result<(PathBuf, Vec<OsString>), Error> {
    let file = format!("{split}.txt");
    let mut path = sets.join(year).join(&file);
    // The release of 2016 calls the folder after the resolution.
    let other = sets.join(resolution).join(&file);
    if year == "2016" && !path.is_file() && other.is_file() {
        path = other;
    }
    let list = match text(&path) {
        Ok(list) => list,
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Err(Error::layout(&path, no_split(sets, year)));
        }
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    // Lines may end as on any system.
    for line in list.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()) {
        let Some(name) = name_in(line) else {
            let expected = "a line must be one, or begin with /JPEGImages/RESOLUTION/NAME/FRAME";
            let reason = format!("{line:?} is not the name of a sequence; {expected}");
            return Err(Error::layout(&path, reason));
        };
        // Lists of frames name their sequence in each line.
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() {
        return Err(Error::layout(&path, "the split names no sequences"));
    }
    Ok((path, names))
}

/// The sequence that a line of a split names.
fn name_in(line: &str) -> Option<&OsStr> {
    let below = line.strip_prefix('/').unwrap_or(line).strip_prefix("JPEGImages/");
    let path = below.map_or(line, |rest| rest.split_whitespace().next().unwrap_or_default());
    let parts: Vec<_> = Path::new(path).components().collect();
    match (below, parts.as_slice()) {
        (None, [Component::Normal(name)]) => Some(*name),
        (Some(_), [Component::Normal(_), Component::Normal(name), Component::Normal(_)]) => Some(*name),
        _ => None,
    }
}

/// Says that a split is missing and which ones there are.
fn no_split(sets: &Path, year: &str) -> String {
    let mut splits = files(&sets.join(year), &["txt"]).unwrap_or_default();
    splits.sort();
    let splits: Vec<_> = splits.iter().filter_map(|path| path.file_stem()).map(OsStr::to_owned).collect();
    if !splits.is_empty() {
        return format!("no such split; {} has {}", sets.join(year).display(), some(&splits));
    }
    match folders(sets) {
        Ok(years) if !years.is_empty() => {
            let mut text = format!("no such split; ImageSets has {}", some(&years));
            if year != "2016" && !years.iter().any(|known| known.to_string_lossy().starts_with("20")) {
                text += "; for the lists of DAVIS 2016 ask for the year 2016";
            }
            text
        }
        _ => "no such split; ImageSets/<year>/<split>.txt is expected, or no folder ImageSets".into(),
    }
}

/// Says which layouts there are, and guesses which folder was meant.
fn unknown(root: &Path) -> String {
    let mut text = "no videos in a known layout; those are JPEGImages/<resolution>/NAME and \
                    Annotations/<resolution>/NAME with ImageSets/<year>/<split>.txt (DAVIS), JPEGImages/NAME and \
                    Annotations/NAME (YouTube-VOS), and NAME/*.jpg (or png, webp, bmp, tif) with masks (png) in NAME, NAME/masks, masks/NAME or \
                    Annotations/NAME"
        .to_owned();
    let below = folders(root).unwrap_or_default();
    if let Some(name) = below.iter().find(|name| root.join(name).join("JPEGImages").is_dir()) {
        text += &format!("; did you mean {}?", root.join(name).display());
    } else if holds(root, FRAMES) {
        text += "; this folder has frames itself: give the one that it is in";
    }
    text
}

/// The first of `names`.
fn some(names: &[OsString]) -> String {
    const MOST: usize = 20;
    let mut text = names.iter().take(MOST).map(|n| n.to_string_lossy()).collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        text += &format!(" and {} more", names.len() - MOST);
    }
    text
}
