//! `.pth` files of `torch.save`: finds the dicts of tensors and builds the tensors of one of them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::archive::Archive;
use crate::pickle::{Document, Fault};
use crate::place::Group;
use crate::value::{TensorSpec, Value};
use crate::{Place, WeightsError, bytes};

/// Largest depth of nested dicts that are searched; checkpoints of training programs have three levels at most.
const DEEPEST: usize = 8;
/// Largest number of entries that are searched in total, because shared nested dicts can multiply.
const MOST_ENTRIES: usize = 1 << 21;

/// Overlapping views may copy the bytes of their storage this many times. Tied weights share one
/// copy; anything above a few is an attempt to exhaust the memory.
const MAX_COPIES: usize = 16;

/// Most bytes of all expanded tensors of a dict, which repeat the few numbers stored for them.
const MAX_EXPANDED: usize = 1 << 28;

/// An opened `.pth` file whose entries are intact and whose pickle has been understood.
pub(crate) struct Pth {
    path: PathBuf,
    archive: Archive,
    document: Document,
    /// The folder that `torch.save` puts around its entries.
    folder: String,
}

impl Pth {
    /// Opens and verifies the whole file, without building any tensor.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let refused = |reason: &str| WeightsError::Archive { path: path.to_path_buf(), reason: reason.into() };
        let mut archive = Archive::open(path)?;
        let folder = archive
            .names()
            .find_map(|name| {
                let folder = name.strip_suffix("/data.pkl")?;
                (!folder.contains('/')).then(|| folder.to_string())
            })
            .ok_or_else(|| refused("it has no data.pkl, so torch.save did not write it"))?;
        if let Some(order) = archive.read(&format!("{folder}/byteorder"))?
            && order != b"little"
        {
            return Err(refused("its numbers are not little-endian"));
        }
        let pickle = archive.read(&format!("{folder}/data.pkl"))?.unwrap_or_default();
        let document = Document::parse(&pickle).map_err(|fault| match fault {
            Fault::Malformed(at, reason) => WeightsError::Pickle { path: path.to_path_buf(), at, reason },
            Fault::Global(name) => WeightsError::Global { path: path.to_path_buf(), name },
        })?;
        if document.root().is_none() {
            return Err(WeightsError::Pickle {
                path: path.to_path_buf(),
                at: 0,
                reason: "the file holds something other than a dict".into(),
            });
        }
        Ok(Self { path: path.to_path_buf(), archive, document, folder })
    }

    /// The top-level keys whose values are dicts.
    pub fn keys(&self) -> Vec<String> {
        let entries = self.document.root().into_iter().flatten();
        entries.filter(|(_, value)| matches!(value, Value::Dict(_))).map(|(name, _)| name.to_string()).collect()
    }

    /// The dicts that hold tensors, nested ones included, each with the keys that lead to it and the names of its
    /// tensors.
    pub fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        let mut open: Vec<Vec<String>> = vec![Vec::new()];
        let mut looked_at = 0;
        while let Some(keys) = open.pop() {
            let Some(entries) = find(&self.document, &keys) else { continue };
            looked_at += 1 + entries.len();
            let mut names = Vec::new();
            for (name, value) in entries {
                match value {
                    Value::Tensor(_) | Value::Unread(_) => names.push(name.to_string()),
                    Value::Dict(_) if keys.len() < DEEPEST => {
                        open.push(keys.iter().cloned().chain([name.to_string()]).collect());
                    }
                    _ => {}
                }
            }
            if !names.is_empty() {
                places.push(Place { keys, names });
            }
            if looked_at > MOST_ENTRIES {
                break;
            }
        }
        places.sort_by(|a, b| a.keys.cmp(&b.keys));
        places
    }

    /// The tensors of the dict that `keys` lead to (no keys: the top level); `None` if there is no such dict.
    pub fn group<S: AsRef<str>>(&mut self, keys: &[S], device: &Device) -> Result<Option<Group>, WeightsError> {
        let mut group = Group::default();
        let mut by_storage: BTreeMap<Arc<str>, Vec<(Arc<str>, &TensorSpec)>> = BTreeMap::new();
        let Some(entries) = find(&self.document, keys) else {
            return Ok(None);
        };
        for (name, value) in entries {
            match value {
                Value::Tensor(spec) => by_storage.entry(spec.storage.key.clone()).or_default().push((name, spec)),
                Value::Dict(_) if keys.is_empty() => {} // a group of its own
                Value::Unread(what) => {
                    group.notes.push(format!("`{name}` is a {what}: skipped"));
                    group.unread.insert(name.to_string(), (*what).to_string());
                }
                _ => group.notes.push(format!("`{name}` is no tensor: skipped")),
            }
        }
        let mut expanded = MAX_EXPANDED;
        for (storage, views) in by_storage {
            let entry = format!("{}/data/{storage}", self.folder);
            let bytes = self.archive.read(&entry)?;
            let mut built = Built {
                path: &self.path,
                bytes: bytes.as_deref(),
                budget: bytes.as_ref().map_or(0, Vec::len).saturating_mul(MAX_COPIES),
                expanded: &mut expanded,
                device,
                seen: HashMap::new(),
            };
            for (name, spec) in views {
                let element = spec.storage.element;
                let floats = [DType::F64, DType::F32, DType::F16, DType::BF16];
                let known = element.dtype.filter(|dtype| !spec.negative || floats.contains(dtype));
                let Some(dtype) = known else {
                    let class = element.class;
                    let note = format!("`{name}` is in a {class}, which has no dtype here: skipped");
                    group.notes.push(note);
                    group.unread.insert(name.to_string(), class.to_string());
                    continue;
                };
                let tensor = built.view(&name, dtype, spec)?;
                group.tensors.insert(name.to_string(), tensor);
            }
        }
        Ok(Some(group))
    }
}

/// The dict that `keys` lead to. As in Python, the last value of a repeated key counts.
fn find<'a, S: AsRef<str>>(document: &'a Document, keys: &[S]) -> Option<BTreeMap<Arc<str>, &'a Value>> {
    let collect = |entries: &mut dyn Iterator<Item = (&'a Arc<str>, &'a Value)>| {
        entries.map(|(name, value)| (name.clone(), value)).collect::<BTreeMap<_, _>>()
    };
    let mut dict = collect(&mut document.root()?);
    for key in keys {
        dict = collect(&mut document.entries(dict.get(key.as_ref())?)?);
    }
    Some(dict)
}

/// Dtype, offset, shape and stride of a view, and whether its sign is inverted.
type Placement = (DType, usize, Vec<usize>, Vec<usize>, bool);

/// Builds the tensors that share one storage.
struct Built<'a> {
    path: &'a Path,
    /// The storage's bytes, if its entry exists.
    bytes: Option<&'a [u8]>,
    /// Bytes that may still be copied from the storage.
    budget: usize,
    /// Bytes that expanded tensors may still take.
    expanded: &'a mut usize,
    device: &'a Device,
    /// Views already built: names with equal views share one tensor.
    seen: HashMap<Placement, Tensor>,
}

impl Built<'_> {
    /// A view as a contiguous tensor.
    fn view(&mut self, name: &str, dtype: DType, spec: &TensorSpec) -> Result<Tensor, WeightsError> {
        let placement = (dtype, spec.offset, spec.shape.clone(), spec.stride.clone(), spec.negative);
        if let Some(tensor) = self.seen.get(&placement) {
            return Ok(tensor.clone());
        }
        let mut bytes = self.gather(dtype, spec).map_err(|reason| WeightsError::Tensor {
            path: self.path.to_path_buf(),
            name: name.to_string(),
            reason,
        })?;
        if spec.negative {
            // The sign is the highest bit of the last byte.
            let signs = bytes.iter_mut().skip(dtype.size_in_bytes() - 1).step_by(dtype.size_in_bytes());
            signs.for_each(|byte| *byte ^= 0x80);
        }
        let tensor = bytes::tensor(self.path, name, &bytes, dtype, &spec.shape, self.device)?;
        self.seen.insert(placement, tensor.clone());
        Ok(tensor)
    }

    /// The bytes of a view's elements in row-major order, after checking that all are in the storage.
    fn gather(&mut self, dtype: DType, spec: &TensorSpec) -> Result<Vec<u8>, String> {
        let stored = self.bytes.ok_or_else(|| format!("its entry data/{} is absent", spec.storage.key))?;
        let width = dtype.size_in_bytes();
        let outside = || {
            let (shape, offset, stride, stored) = (&spec.shape, spec.offset, &spec.stride, stored.len());
            format!(
                "shape {shape:?} from offset {offset} with strides {stride:?} leads outside the {stored} bytes stored for it"
            )
        };
        let length =
            bytes::element_count(&spec.shape).and_then(|count| count.checked_mul(width)).ok_or_else(outside)?;
        if length == 0 {
            return Ok(Vec::new());
        }
        let last = spec
            .shape
            .iter()
            .zip(&spec.stride)
            .try_fold(spec.offset, |last, (&size, &stride)| last.checked_add((size - 1).checked_mul(stride)?))
            .filter(|&last| last < stored.len() / width)
            .ok_or_else(outside)?;
        if length > stored.len() {
            *self.expanded = self.expanded.checked_sub(length).ok_or_else(|| {
                format!(
                    "expanded from {} bytes to {length}, more than is read here; save it as .contiguous()",
                    stored.len()
                )
            })?;
        } else {
            self.budget = self.budget.checked_sub(length).ok_or("too many overlapping views of one storage")?;
        }
        if is_row_major(spec) {
            let range = spec.offset * width..(last + 1) * width;
            return stored.get(range).map(<[u8]>::to_vec).ok_or_else(outside);
        }
        let mut gathered = Vec::with_capacity(length);
        let mut index = vec![0; spec.shape.len()];
        let mut at = spec.offset;
        while gathered.len() < length {
            let element = stored.get(at * width..(at + 1) * width);
            gathered.extend_from_slice(element.ok_or_else(outside)?);
            at = advance(&mut index, at, spec);
        }
        Ok(gathered)
    }
}

/// Moves `index` to the next element in row-major order and returns its position in the storage.
fn advance(index: &mut [usize], mut at: usize, spec: &TensorSpec) -> usize {
    let axes = index.iter_mut().zip(&spec.shape).zip(&spec.stride);
    for ((index, &size), &stride) in axes.rev() {
        *index += 1;
        if *index < size {
            return at + stride;
        }
        at -= (size - 1) * stride;
        *index = 0;
    }
    at
}

/// Whether the elements are in row-major order without gaps.
fn is_row_major(spec: &TensorSpec) -> bool {
    let mut expected = 1;
    for (&size, &stride) in spec.shape.iter().zip(&spec.stride).rev() {
        if size > 1 && stride != expected {
            return false;
        }
        expected *= size;
    }
    true
}
