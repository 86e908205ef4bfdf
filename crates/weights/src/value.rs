//! Values of a pickle.

use crate::globals::{Element, Global};
use std::sync::Arc;

/// Index of a value in its document.
pub(crate) type Id = usize;

/// A Python value, as far as weights need it.
#[derive(Debug)]
pub(crate) enum Value {
    /// Any harmless value that is not needed here.
    Opaque,
    /// `True`.
    True,
    /// An integer that fits 64 bits.
    Int(i64),
    /// A text string.
    Text(Arc<str>),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A list.
    List(Vec<Id>),
    /// A dict or `OrderedDict`, in insertion order.
    Dict(Vec<(Id, Id)>),
    /// A class or function from the list of known names.
    Global(Global),
    /// The bytes behind tensors: one entry of the archive.
    Storage(Storage),
    /// A view of a storage.
    Tensor(Box<TensorSpec>),
    /// A tensor that is not one block of numbers; the kind of tensor.
    Unread(&'static str),
}

/// A persistent id of `torch.save`.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    /// The type of its elements.
    pub element: Element,
    /// Key of the storage, whose entry in the archive is `data/<key>`.
    pub key: Arc<str>,
}

/// The layout of a tensor in its storage.
#[derive(Debug, Clone)]
pub(crate) struct TensorSpec {
    /// The storage that holds its elements.
    pub storage: Storage,
    /// First element, counted in elements.
    pub offset: usize,
    /// Size per dimension.
    pub shape: Vec<usize>,
    /// Distance between neighbours along each dimension, counted in elements.
    pub stride: Vec<usize>,
    /// Whether the stored numbers have the opposite sign of the tensor's.
    pub negative: bool,
}
