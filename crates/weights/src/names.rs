//! Matching of tensors by name: prefixes that wrappers add, and strict comparison with a model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::Tensor;

use crate::WeightsError;
use crate::mismatch::Mismatch;

/// Succeeds only when `found` has exactly the `expected` names, each with its expected shape.
///
/// The error lists all differences at once and names the file `origin`.
pub fn check_strict(
    expected: &[(String, Vec<usize>)],
    found: &BTreeMap<String, Tensor>,
    origin: &Path,
) -> Result<(), WeightsError> {
    let mut missing = Vec::new();
    let mut misshaped = Vec::new();
    for (name, shape) in expected {
        match found.get(name) {
            None => missing.push(name.clone()),
            Some(tensor) if tensor.dims() != shape.as_slice() => {
                misshaped.push((name.clone(), shape.clone(), tensor.dims().to_vec()));
            }
            Some(_) => {}
        }
    }
    let known: BTreeSet<&String> = expected.iter().map(|(name, _)| name).collect();
    let extra: Vec<String> = found.keys().filter(|name| !known.contains(name)).cloned().collect();
    if missing.is_empty() && extra.is_empty() && misshaped.is_empty() {
        return Ok(());
    }
    Err(WeightsError::Mismatch(Box::new(Mismatch { path: origin.to_path_buf(), missing, extra, misshaped })))
}

/// Drops `prefix` from the names that start with it; a name whose short form is already taken keeps its long form, so
/// that nothing is overwritten silently.
pub(crate) fn strip(tensors: BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let (prefixed, mut stripped): (BTreeMap<_, _>, BTreeMap<_, _>) =
        tensors.into_iter().partition(|(name, _)| name.len() > prefix.len() && name.starts_with(prefix));
    for (name, tensor) in prefixed {
        let short = name.strip_prefix(prefix).unwrap_or(&name).to_string();
        let name = if stripped.contains_key(&short) { name } else { short };
        stripped.insert(name, tensor);
    }
    stripped
}

/// Keeps the names under `prefix` (`"teacher"` means `teacher.…`) and removes the prefix.
pub(crate) fn under<T: Clone>(tensors: &BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
    let prefix = format!("{}.", prefix.trim_end_matches('.'));
    tensors
        .iter()
        .filter_map(|(name, tensor)| {
            let short = name.strip_prefix(&prefix).filter(|s| !s.is_empty())?;
            Some((short.to_string(), tensor.clone()))
        })
        .collect()
}
