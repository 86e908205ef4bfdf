//! The dicts of tensors in a file, and the tensors found in one.

use candle_core::Tensor;
use std::collections::BTreeMap;

/// A dict of tensors in a weight file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The keys that lead to the dict; none for the top level, which is the only place of a safetensors file.
    pub keys: Vec<String>,
    /// The names of its tensors, including those that cannot be read.
    pub names: Vec<String>,
}

/// Tensors found at one place of a file.
#[derive(Default)]
pub(crate) struct Group {
    pub tensors: BTreeMap<String, Tensor>,
    pub notes: Vec<String>,
    pub unread: BTreeMap<String, String>,
}
