//! Weight files: PyTorch's `.pth` and safetensors in, safetensors out.
//!
//! ```no_run
//! # use std::path::Path;
//! # use selfpatch_nn::weights;
//! # fn main() -> Result<(), weights::WeightsError> {
//! let path = Path::new("dino_deitsmall16_pretrain_full_checkpoint.pth");
//! let teacher = weights::read(path, &candle_core::Device::Cpu)?
//!     .select(Some("teacher"))?
//!     .without_prefixes();
//! # let expected = Vec::new();
//! weights::check_strict(&expected, &teacher.tensors, &teacher.path)?;
//! # Ok(())
//! # }
//! ```
//!
//! Files are taken for hostile. A `.pth` is a zip archive around a pickle: every entry's CRC-32 is
//! verified, the pickle is read as data by an interpreter of the few instructions that
//! `torch.save` emits, and each tensor's shape, offset and strides are checked against the bytes
//! stored for it. What is absent here: executing anything, decompressing anything, writing or
//! reading outside the given path, converting dtypes.

mod archive;
mod atomic;
mod error;
mod globals;
mod machine;
mod names;
mod pickle;
mod pth;
mod reader;
mod regular;
mod safetensors;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

pub use error::WeightsError;
pub use names::{Mismatch, check_strict};
pub use regular::open_file;
pub use safetensors::write_safetensors;

/// Keys under which training checkpoints keep a model, in order of preference.
const USUAL_KEYS: [&str; 4] = ["teacher", "student", "state_dict", "model"];

/// The named tensors of one file, or of the part of it that was selected.
///
/// Dtypes are the file's own. The dicts nested in a `.pth` file are only turned into tensors by
/// [`Weights::select`], so a training checkpoint costs no more memory than the part that is used.
pub struct Weights {
    /// The file they come from.
    pub path: PathBuf,
    /// Tensors by name, contiguous.
    pub tensors: BTreeMap<String, Tensor>,
    /// The free-text metadata of a safetensors file; empty for `.pth`.
    pub metadata: BTreeMap<String, String>,
    /// What was passed over and why: values that are no tensors, dtypes that candle lacks.
    pub notes: Vec<String>,
    /// Tensors that were passed over for what they hold, such as 8-bit floats: name and kind.
    pub unread: BTreeMap<String, String>,
    nested: Option<pth::Pth>,
    device: Device,
}

/// A dict of tensors in a weight file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The keys that lead to it; none for the top level, where a safetensors file has all.
    pub keys: Vec<String>,
    /// The names of its tensors, also of those that cannot be read.
    pub names: Vec<String>,
}

/// Tensors found at one place of a file.
#[derive(Default)]
struct Group {
    tensors: BTreeMap<String, Tensor>,
    notes: Vec<String>,
    unread: BTreeMap<String, String>,
}

/// Reads a weight file, telling the format from its first bytes rather than from its name: a zip
/// archive is a `.pth`, everything else has to be safetensors.
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
    /// With a key: the dict of that name in a `.pth`, or the tensors named `key.…`; an absent key
    /// is an error that lists those there are. Without one: the first that exists of `teacher`,
    /// `student`, `state_dict`, `model`, else the tensors at the top level. (Mere name prefixes
    /// `state_dict.` and `model.` count only when every tensor has them, lest others be dropped.)
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
    /// DINO removes both wherever they occur; the published files have them at the front only. A
    /// name whose short form is taken by another tensor stays as it is.
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

    /// The tensors under a key: of a nested dict, else of a common name prefix.
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
        names::listing(&keys)
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

/// What the first bytes say.
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

/// The number of elements, or `None` where it (or a stride) overflows; zero sizes do not hide
/// the overflow of the others.
fn element_count(shape: &[usize]) -> Option<usize> {
    let product = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size.max(1)))?;
    Some(if shape.contains(&0) { 0 } else { product })
}

/// A tensor from little-endian bytes in row-major order.
fn tensor(
    path: &Path,
    name: &str,
    bytes: &[u8],
    dtype: DType,
    shape: &[usize],
    device: &Device,
) -> Result<Tensor, WeightsError> {
    let needed = element_count(shape).and_then(|count| count.checked_mul(dtype.size_in_bytes()));
    if needed != Some(bytes.len()) {
        return Err(WeightsError::Tensor {
            path: path.to_path_buf(),
            name: name.into(),
            reason: format!("shape {shape:?} of {dtype:?} does not fit {} bytes", bytes.len()),
        });
    }
    Tensor::from_raw_buffer(bytes, dtype, shape, device).map_err(|source| WeightsError::Candle {
        path: path.to_path_buf(),
        name: name.into(),
        source: Box::new(source),
    })
}
