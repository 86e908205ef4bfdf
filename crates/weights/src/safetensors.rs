//! Safetensors files: reading with named errors, and writing with bytes that depend only on the contents.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use ::safetensors::{Dtype, SafeTensors};
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};

use crate::atomic::atomically;
use crate::place::Group;
use crate::{WeightsError, bytes, open_file};

/// Reads all tensors and the metadata of a safetensors file.
pub(crate) fn read(path: &Path, device: &Device) -> Result<(Group, BTreeMap<String, String>), WeightsError> {
    let refused = |e: ::safetensors::SafeTensorError| WeightsError::Safetensors {
        path: path.to_path_buf(),
        reason: e.to_string(),
    };
    let buffer =
        read_all(path).map_err(|source| WeightsError::Io { path: path.to_path_buf(), action: "read", source })?;
    let (_, header) = SafeTensors::read_metadata(&buffer).map_err(refused)?;
    let metadata = header.metadata().iter().flatten();
    let metadata = metadata.map(|(k, v)| (k.clone(), v.clone())).collect();
    let file = SafeTensors::deserialize(&buffer).map_err(refused)?;
    let mut group = Group::default();
    for (name, view) in file.iter() {
        let Some(dtype) = known(view.dtype()) else {
            let dtype = view.dtype();
            let note = format!("`{name}` is {dtype}, which has no dtype here: skipped");
            group.notes.push(note);
            group.unread.insert(name.to_string(), dtype.to_string());
            continue;
        };
        let tensor = bytes::tensor(path, name, view.data(), dtype, view.shape(), device)?;
        group.tensors.insert(name.to_string(), tensor);
    }
    group.notes.sort();
    Ok((group, metadata))
}

fn read_all(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = open_file(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(length)?;
    file.take(length as u64).read_to_end(&mut buffer)?;
    Ok(buffer)
}

/// The dtypes that are read and written.
fn known(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::U8 => DType::U8,
        Dtype::U32 => DType::U32,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::BF16 => DType::BF16,
        Dtype::F16 => DType::F16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        _ => return None,
    })
}

/// Writes `tensors` and `metadata` as a safetensors file, atomically: into a temporary file in the same folder, which
/// is synchronised to disk and then renamed, so that `path` always holds the complete old file or the complete new
/// one.
///
/// The bytes depend on the contents alone, not on the order of the arguments: tensors are laid out
/// as the `safetensors` crate does (widest dtype first, then by name), metadata by key. A repeated
/// metadata key keeps its last value; a repeated tensor name is an error.
pub fn write_safetensors(
    path: &Path,
    tensors: &[(String, Tensor)],
    metadata: &[(String, String)],
) -> Result<(), WeightsError> {
    let mut sorted: Vec<&(String, Tensor)> = tensors.iter().collect();
    sorted.sort_by(|(left, l), (right, r)| {
        let by_dtype = Dtype::from(r.dtype()).cmp(&Dtype::from(l.dtype()));
        by_dtype.then_with(|| left.cmp(right))
    });
    let header = header(path, &sorted, metadata)?;
    let io = |source| WeightsError::Io { path: path.to_path_buf(), action: "write", source };
    atomically(path, |out| {
        let length = (header.len() as u64).to_le_bytes();
        out.write_all(&length).map_err(io)?;
        out.write_all(header.as_bytes()).map_err(io)?;
        for (name, tensor) in sorted {
            write_tensor(out, tensor).map_err(|failure| match failure {
                Failure::Io(source) => io(source),
                Failure::Candle(source) => {
                    WeightsError::Candle { path: path.to_path_buf(), name: name.clone(), source: Box::new(source) }
                }
            })?;
        }
        Ok(())
    })
}

/// The JSON header, padded with spaces to a multiple of 8 bytes so that tensors are aligned.
fn header(path: &Path, tensors: &[&(String, Tensor)], metadata: &[(String, String)]) -> Result<String, WeightsError> {
    let mut fields = Vec::new();
    let metadata: BTreeMap<&String, &String> = metadata.iter().map(|(k, v)| (k, v)).collect();
    if !metadata.is_empty() {
        let pairs: Vec<String> = metadata.iter().map(|(key, value)| format!("{}:{}", json(key), json(value))).collect();
        fields.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
    }
    let mut names = std::collections::BTreeSet::new();
    let mut start = 0usize;
    for (name, tensor) in tensors {
        let unwritable =
            |reason: String| WeightsError::Unwritable { path: path.to_path_buf(), name: name.clone(), reason };
        if name == "__metadata__" {
            return Err(unwritable("the format reserves this name".into()));
        }
        if !names.insert(name) {
            return Err(unwritable("two tensors have this name".into()));
        }
        let dtype = Dtype::from(tensor.dtype());
        if known(dtype).is_none() {
            return Err(unwritable(format!("dtype {dtype} is not supported")));
        }
        let end = tensor
            .elem_count()
            .checked_mul(tensor.dtype().size_in_bytes())
            .and_then(|length| start.checked_add(length))
            .ok_or_else(|| unwritable("too large".into()))?;
        let shape: Vec<String> = tensor.dims().iter().map(usize::to_string).collect();
        fields.push(format!(
            "{}:{{\"dtype\":\"{dtype}\",\"shape\":[{}],\"data_offsets\":[{start},{end}]}}",
            json(name),
            shape.join(",")
        ));
        start = end;
    }
    let mut header = format!("{{{}}}", fields.join(","));
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    Ok(header)
}

/// A JSON string literal.
fn json(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// An error on writing one tensor.
enum Failure {
    Io(std::io::Error),
    Candle(candle_core::Error),
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::Io(e)
    }
}

impl From<candle_core::Error> for Failure {
    fn from(e: candle_core::Error) -> Self {
        Self::Candle(e)
    }
}

/// A tensor's elements in row-major order, little-endian.
fn write_tensor(out: &mut impl Write, tensor: &Tensor) -> Result<(), Failure> {
    let tensor = tensor.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Err(candle_core::Error::Msg("no contiguous copy on the CPU".into()).into());
    };
    match storage {
        CpuStorage::U8(v) => put(out, v.get(start..end), |x| [x])?,
        CpuStorage::U32(v) => put(out, v.get(start..end), u32::to_le_bytes)?,
        CpuStorage::I16(v) => put(out, v.get(start..end), i16::to_le_bytes)?,
        CpuStorage::I32(v) => put(out, v.get(start..end), i32::to_le_bytes)?,
        CpuStorage::I64(v) => put(out, v.get(start..end), i64::to_le_bytes)?,
        CpuStorage::BF16(v) => put(out, v.get(start..end), |x| x.to_le_bytes())?,
        CpuStorage::F16(v) => put(out, v.get(start..end), |x| x.to_le_bytes())?,
        CpuStorage::F32(v) => put(out, v.get(start..end), f32::to_le_bytes)?,
        CpuStorage::F64(v) => put(out, v.get(start..end), f64::to_le_bytes)?,
        _ => return Err(candle_core::Error::Msg("an unsupported dtype".into()).into()),
    }
    Ok(())
}

fn put<T: Copy, const N: usize>(
    out: &mut impl Write,
    values: Option<&[T]>,
    bytes: impl Fn(T) -> [u8; N],
) -> Result<(), Failure> {
    let Some(values) = values else {
        return Err(candle_core::Error::Msg("a layout outside its storage".into()).into());
    };
    let mut chunk = Vec::with_capacity(8192 * N);
    for values in values.chunks(8192) {
        chunk.clear();
        chunk.extend(values.iter().flat_map(|&value| bytes(value)));
        out.write_all(&chunk)?;
    }
    Ok(())
}
