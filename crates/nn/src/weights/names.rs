//! Matching tensors by name: prefixes that wrappers add, and the strict comparison with a model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use super::WeightsError;

/// How many names an error message spells out per kind of difference.
const LISTED: usize = 10;

/// How a file's names and shapes differ from the expected ones; every list is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The file that was compared.
    pub path: PathBuf,
    /// Expected, but not in the file.
    pub missing: Vec<String>,
    /// In the file, but not expected.
    pub extra: Vec<String>,
    /// In both with different shapes: name, expected shape, shape in the file.
    pub misshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: does not fit the model", self.path.display())?;
        let misshaped: Vec<String> = self
            .misshaped
            .iter()
            .map(|(name, expected, found)| format!("{name} {found:?} instead of {expected:?}"))
            .collect();
        for (kind, names) in [("missing", &self.missing), ("extra", &self.extra), ("wrong shape", &misshaped)] {
            if !names.is_empty() {
                write!(f, "\n  {kind} ({}): {}", names.len(), listing(names))?;
            }
        }
        write!(f, "\n  check the architecture, the patch size and the checkpoint key")
    }
}

impl std::error::Error for Mismatch {}

/// Succeeds only when `found` has exactly the `expected` names, each with its expected shape.
///
/// The error lists all differences at once; `origin` is the file that it names.
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

/// The first names, then how many more there are.
pub(super) fn listing<S: AsRef<str>>(names: &[S]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    let mut text = names.iter().take(LISTED).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(", … and {} more", names.len() - LISTED));
    }
    text
}

/// Drops `prefix` from the names that start with it; a name whose short form is already taken
/// keeps its long one, so that nothing is overwritten silently.
pub(super) fn strip(tensors: BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let (prefixed, mut stripped): (BTreeMap<_, _>, BTreeMap<_, _>) =
        tensors.into_iter().partition(|(name, _)| name.len() > prefix.len() && name.starts_with(prefix));
    for (name, tensor) in prefixed {
        let short = name.strip_prefix(prefix).unwrap_or(&name).to_string();
        let name = if stripped.contains_key(&short) { name } else { short };
        stripped.insert(name, tensor);
    }
    stripped
}

/// Keeps the names under `prefix` (`"teacher"` means `teacher.…`), without it.
pub(super) fn under<T: Clone>(tensors: &BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
    let prefix = format!("{}.", prefix.trim_end_matches('.'));
    tensors
        .iter()
        .filter_map(|(name, tensor)| {
            let short = name.strip_prefix(&prefix).filter(|s| !s.is_empty())?;
            Some((short.to_string(), tensor.clone()))
        })
        .collect()
}
