//! A weight file of any format, and the choice of a part of it.

use crate::place::Group;
use crate::{Place, WeightsError, names, open_file, pth, safetensors};
use candle_core::{Device, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Keys under which training checkpoints keep a model, in order of preference.
const USUAL_KEYS: [&str; 4] = ["teacher", "student", "state_dict", "model"];

/// The named tensors of a file, or of a selected part of it.
///
/// Dtypes are the file's own. Nested dicts of a `.pth` file become tensors only by [`Weights::select`], so a training
/// checkpoint costs no more memory than the part that is used.
pub struct Weights {
    /// The file they come from.
    pub path: PathBuf,
    /// Tensors by name, contiguous.
    pub tensors: BTreeMap<String, Tensor>,
    /// The free-text metadata of a safetensors file; empty for `.pth`.
    pub metadata: BTreeMap<String, String>,
    /// What was skipped and why: values that are not tensors, dtypes that candle lacks.
    pub notes: Vec<String>,
    /// Tensors that were skipped because of their dtype or layout, such as 8-bit floats: name and kind.
    pub unread: BTreeMap<String, String>,
    nested: Option<pth::Pth>,
    device: Device,
}

/// Reads a weight file. The format is recognised by the first bytes, not by the name: a zip archive is a `.pth`, any
/// other file must be safetensors.
pub fn read(path: &Path, device: &Device) -> Result<Weights, WeightsError> {
    let (nested, group, metadata) = match format_of(path)? {
        Format::Zip => {
            let mut file = pth::Pth::open(path)?;
            let group = file.group::<&str>(&[], device)?.unwrap_or_default();
            (Some(file), group, BTreeMap::new())
        }
        Format::BarePickle => {
            return Err(WeightsError::LegacyPth { path: path.to_path_buf() });
        }
        Format::Other => {
            let (group, metadata) = safetensors::read(path, device)?;
            (None, group, metadata)
        }
    };
    Ok(Weights {
        path: path.to_path_buf(),
        tensors: group.tensors,
        metadata,
        notes: group.notes,
        unread: group.unread,
        nested,
        device: device.clone(),
    })
}

impl Weights {
    /// Chooses the model inside a training checkpoint, as DINO's `--checkpoint_key` does.
    ///
    /// With a key: the dict of that name in a `.pth`, or the tensors named `key.…`; an absent key is an error that
    /// lists the existing keys. Without a key: the first that exists of `teacher`, `student`, `state_dict`, `model`,
    /// otherwise the tensors at the top level. (Name prefixes `state_dict.` and `model.` count only if every tensor
    /// has them, so that no tensor is dropped.)
    pub fn select(mut self, key: Option<&str>) -> Result<Weights, WeightsError> {
        let Some(key) = key else {
            for key in USUAL_KEYS {
                if let Some(group) = self.group(key, true)? {
                    return self.narrowed(group, key);
                }
            }
            let group = Group {
                tensors: std::mem::take(&mut self.tensors),
                notes: std::mem::take(&mut self.notes),
                unread: std::mem::take(&mut self.unread),
            };
            return self.narrowed(group, "");
        };
        match self.group(key, false)? {
            Some(group) => self.narrowed(group, key),
            None => Err(WeightsError::NoSuchKey { key: key.into(), available: self.available(), path: self.path }),
        }
    }

    /// Drops a leading `module.` (PyTorch's data parallelism) and then a leading `backbone.`
    /// (DINO's multi-crop wrapper) from the names that have them.
    ///
    /// DINO removes both wherever they occur; the published files have them at the front only. A name whose short
    /// form belongs to another tensor is kept.
    pub fn without_prefixes(mut self) -> Weights {
        let tensors = names::strip(self.tensors, "module.");
        self.tensors = names::strip(tensors, "backbone.");
        self
    }

    /// Keeps only the tensors under `prefix` and removes it: of `backbone.norm.bias` and
    /// `head.weight`, `scoped("backbone")` leaves `norm.bias`.
    pub fn scoped(mut self, prefix: &str) -> Weights {
        self.tensors = names::under(&self.tensors, prefix);
        self
    }

    /// Every dict of tensors in the file, by the keys that lead to it.
    pub fn places(&self) -> Vec<Place> {
        match &self.nested {
            Some(nested) => nested.places(),
            None => {
                let names = self.tensors.keys().chain(self.unread.keys()).cloned().collect();
                vec![Place { keys: Vec::new(), names }]
            }
        }
    }

    /// The tensors of the dict that `keys` lead to, as [`Weights::places`] lists them.
    pub fn at(mut self, keys: &[String]) -> Result<Weights, WeightsError> {
        if keys.is_empty() {
            return Ok(self);
        }
        let group = match &mut self.nested {
            Some(nested) => nested.group(keys, &self.device)?,
            None => None,
        };
        match group {
            Some(group) => self.narrowed(group, &keys.join(".")),
            None => Err(WeightsError::NoSuchKey { key: keys.join("."), available: self.available(), path: self.path }),
        }
    }

    /// The tensors under a key: those of a nested dict, otherwise those with the key as name prefix.
    fn group(&mut self, key: &str, unasked: bool) -> Result<Option<Group>, WeightsError> {
        if let Some(nested) = &mut self.nested
            && let Some(group) = nested.group(&[key], &self.device)?
        {
            return Ok(Some(group));
        }
        let tensors = names::under(&self.tensors, key);
        let partial = tensors.len() < self.tensors.len();
        if tensors.is_empty() || unasked && partial && !matches!(key, "teacher" | "student") {
            return Ok(None);
        }
        let notes = std::mem::take(&mut self.notes);
        let unread = names::under(&std::mem::take(&mut self.unread), key);
        Ok(Some(Group { tensors, notes, unread }))
    }

    /// These weights reduced to `group`, which may not be empty.
    fn narrowed(self, group: Group, key: &str) -> Result<Weights, WeightsError> {
        if group.tensors.is_empty() && group.unread.is_empty() {
            return Err(WeightsError::NoTensors {
                place: if key.is_empty() {
                    "at the top level".into()
                } else {
                    format!("directly under the key `{key}`")
                },
                available: self.available(),
                path: self.path,
            });
        }
        Ok(Weights { tensors: group.tensors, notes: group.notes, unread: group.unread, nested: None, ..self })
    }

    /// The keys that `select` would accept, for error messages.
    fn available(&self) -> String {
        let mut keys = self.nested.as_ref().map(pth::Pth::keys).unwrap_or_default();
        let prefixes: BTreeSet<&str> = self.tensors.keys().filter_map(|name| Some(name.split_once('.')?.0)).collect();
        keys.extend(prefixes.into_iter().map(String::from));
        crate::mismatch::listing(&keys)
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weights")
            .field("path", &self.path)
            .field("tensors", &self.tensors.len())
            .field("notes", &self.notes)
            .finish_non_exhaustive()
    }
}

/// The format that the first bytes indicate.
enum Format {
    Zip,
    BarePickle,
    Other,
}

fn format_of(path: &Path) -> Result<Format, WeightsError> {
    let io = |action| move |source| WeightsError::Io { path: path.to_path_buf(), action, source };
    let mut head = Vec::new();
    let file = open_file(path).map_err(io("open"))?;
    file.take(8).read_to_end(&mut head).map_err(io("read"))?;
    Ok(match head.as_slice() {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Format::Zip,
        // A safetensors file opens with its header's length, far below 2^32.
        [0x80, 2..=5, _, _, rest @ ..] if rest.iter().any(|&byte| byte != 0) => Format::BarePickle,
        _ => Format::Other,
    })
}
