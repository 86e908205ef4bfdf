//! Videos in the folder layout of DAVIS.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::{Error, Mask, Rgb, VideoSource, decode, decode_mask};

/// Frames `JPEGImages/<resolution>/<sequence>/*.jpg|png`, masks
/// `Annotations/<resolution>/<sequence>/*.png`, and the names of the sequences, one per line, in
/// `ImageSets/<year>/<split>.txt`.
///
/// Frames are in the order of their file names; a mask belongs to the frame with the same file
/// stem. The first frame of every sequence must have one, later ones need not.
#[derive(Clone, Debug)]
pub struct DavisFolder {
    split: PathBuf,
    sequences: Vec<Sequence>,
}

#[derive(Clone, Debug)]
struct Sequence {
    name: String,
    frames: Vec<PathBuf>,
    /// As long as `frames`.
    masks: Vec<Option<PathBuf>>,
}

impl DavisFolder {
    /// Lists the sequences of a split, for DAVIS 2017 `"2017"`, `"val"` and `"480p"`.
    ///
    /// Whatever is missing is named: the split (with those that exist), a folder, or the first
    /// mask of a sequence.
    pub fn open(root: impl AsRef<Path>, year: &str, split: &str, resolution: &str) -> Result<Self, Error> {
        let root = root.as_ref();
        fs::metadata(root).map_err(|e| Error::io(root, e))?;
        let sets = root.join("ImageSets").join(year);
        let split = sets.join(format!("{split}.txt"));
        let list = match fs::read_to_string(&split) {
            Ok(list) => list,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::layout(&split, no_split(root, &sets)));
            }
            Err(e) => return Err(Error::io(&split, e)),
        };
        let frames = root.join("JPEGImages").join(resolution);
        let masks = root.join("Annotations").join(resolution);
        let mut sequences = Vec::new();
        for name in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut parts = Path::new(name).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                let reason = format!("{name:?} is not the name of a sequence; one name per line is expected");
                return Err(Error::layout(&split, reason));
            }
            sequences.push(Sequence::open(name, &frames.join(name), &masks.join(name))?);
        }
        if sequences.is_empty() {
            return Err(Error::layout(&split, "the split names no sequences"));
        }
        Ok(Self { split, sequences })
    }

    /// Keeps only the sequences called `names`, in that order. Unknown names are refused.
    pub fn with_sequences(mut self, names: &[String]) -> Result<Self, Error> {
        let kept = names.iter().map(|name| self.sequence(name).cloned()).collect::<Result<_, _>>()?;
        self.sequences = kept;
        Ok(self)
    }

    fn sequence(&self, name: &str) -> Result<&Sequence, Error> {
        self.sequences.iter().find(|s| s.name == name).ok_or_else(|| Error::Missing {
            what: format!("sequence {name:?} in {}", self.split.display()),
            valid: format!("it has {}", self.sequences().join(", ")),
        })
    }
}

impl Sequence {
    fn open(name: &str, frame_folder: &Path, mask_folder: &Path) -> Result<Self, Error> {
        let frames: Vec<PathBuf> = files(frame_folder, &["jpg", "jpeg", "png"])?;
        let Some(first) = frames.first() else {
            return Err(Error::layout(frame_folder, "no frames (jpg or png) of the sequence in it"));
        };
        let stem = |path: &Path| path.file_stem().map(OsString::from);
        let mut by_stem: BTreeMap<_, _> =
            files(mask_folder, &["png"])?.into_iter().map(|path| (stem(&path), path)).collect();
        let masks: Vec<_> = frames.iter().map(|frame| by_stem.remove(&stem(frame))).collect();
        if !matches!(masks.first(), Some(Some(_))) {
            let reason = format!("no mask (png) of the first frame, {}", first.display());
            return Err(Error::layout(mask_folder, reason));
        }
        Ok(Self { name: name.to_owned(), frames, masks })
    }

    /// Refuses a frame that does not exist.
    fn missing(&self, index: usize) -> Error {
        Error::Missing {
            what: format!("frame {index} in {}", self.name),
            valid: format!("it has {}, counted from 0", self.frames.len()),
        }
    }
}

impl VideoSource for DavisFolder {
    fn sequences(&self) -> Vec<String> {
        self.sequences.iter().map(|s| s.name.clone()).collect()
    }

    fn frames(&self, sequence: &str) -> Result<usize, Error> {
        Ok(self.sequence(sequence)?.frames.len())
    }

    fn frame(&self, sequence: &str, index: usize) -> Result<Rgb, Error> {
        let sequence = self.sequence(sequence)?;
        decode(sequence.frames.get(index).ok_or_else(|| sequence.missing(index))?)
    }

    fn mask(&self, sequence: &str, index: usize) -> Result<Option<Mask>, Error> {
        let sequence = self.sequence(sequence)?;
        let mask = sequence.masks.get(index).ok_or_else(|| sequence.missing(index))?;
        mask.as_ref().map(decode_mask).transpose()
    }
}

/// Visible files with one of `extensions` directly in `folder`, sorted by name.
fn files(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let path = entry.path();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && extensions.iter().any(|known| known.eq_ignore_ascii_case(extension)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Says that a split is missing and which ones there are.
fn no_split(root: &Path, sets: &Path) -> String {
    let stems = |paths: Vec<PathBuf>| {
        let names = paths.iter().filter_map(|p| p.file_stem()).map(|n| n.to_string_lossy().into_owned());
        names.collect::<Vec<_>>().join(", ")
    };
    match files(sets, &["txt"]) {
        Ok(splits) if !splits.is_empty() => {
            format!("no such split; {} has {}", sets.display(), stems(splits))
        }
        _ => {
            let years = fs::read_dir(root.join("ImageSets"));
            let mut years: Vec<_> = years.into_iter().flatten().flatten().map(|e| e.path()).collect();
            years.sort();
            if years.is_empty() {
                "no such split; ImageSets/<year>/<split>.txt is expected below the root of DAVIS".into()
            } else {
                format!("no such split; ImageSets has {}", stems(years))
            }
        }
    }
}
