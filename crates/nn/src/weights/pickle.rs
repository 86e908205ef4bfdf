//! The part of Python's pickle language that `torch.save` writes, read as plain data.
//!
//! Nothing is ever executed or imported: the names of a fixed list of Python objects select what
//! a value *means* here, every other name is refused. Values live in one arena and refer to each
//! other by index, so shared and even cyclic structures cost nothing to hold or to drop.

use std::sync::Arc;

use super::globals::{Element, Global};
use super::machine::Machine;
use super::reader::Stop;

/// A ViT with its optimiser states needs well below 1 MiB.
const MAX_BYTES: usize = 32 << 20;

/// Index of a value in its [`Document`].
pub(super) type Id = usize;

/// One Python value, as far as weights need to know it.
#[derive(Debug)]
pub(super) enum Value {
    /// Anything harmless that is of no use here.
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
    /// A class or function of the known list.
    Global(Global),
    /// The bytes behind tensors: one entry of the archive.
    Storage(Storage),
    /// A view of a storage.
    Tensor(Box<TensorSpec>),
    /// A tensor that is not one block of numbers: what it is.
    Unread(&'static str),
}

/// A persistent id of `torch.save`.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    /// What its elements are.
    pub element: Element,
    /// The entry is `data/<key>`.
    pub key: Arc<str>,
}

/// How a tensor lies in its storage.
#[derive(Debug, Clone)]
pub(super) struct TensorSpec {
    /// Where its elements are.
    pub storage: Storage,
    /// First element, counted in elements.
    pub offset: usize,
    /// Size per dimension.
    pub shape: Vec<usize>,
    /// Elements between neighbours per dimension.
    pub stride: Vec<usize>,
    /// Whether the numbers stored are those of the tensor with the opposite sign.
    pub negative: bool,
}

/// Why a pickle was refused.
#[derive(Debug)]
pub(super) enum Fault {
    /// Malformed, or outside the subset: byte position and reason.
    Malformed(usize, String),
    /// A Python name that is not on the list.
    Global(String),
}

/// All values of one pickle, and which of them is the result.
pub(super) struct Document {
    values: Vec<Value>,
    root: Id,
}

impl Document {
    /// Reads one pickle up to its `STOP`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.len() > MAX_BYTES {
            let reason = format!("{} bytes of pickle, more than {MAX_BYTES}", bytes.len());
            return Err(Fault::Malformed(0, reason));
        }
        let mut machine = Machine::new(bytes);
        loop {
            let start = machine.position();
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => {
                    return Ok(Self { values: machine.into_values(), root });
                }
                Err(Stop::Reason(reason)) => return Err(Fault::Malformed(start, reason)),
                Err(Stop::Global(name)) => return Err(Fault::Global(name)),
            }
        }
    }

    /// The pickled object's entries, where it is a dict.
    pub fn root(&self) -> Option<impl Iterator<Item = (&Arc<str>, &Value)>> {
        self.entries(self.values.get(self.root)?)
    }

    /// The entries of a dict whose keys are strings.
    pub fn entries<'a>(&'a self, dict: &'a Value) -> Option<impl Iterator<Item = (&'a Arc<str>, &'a Value)>> {
        let Value::Dict(items) = dict else {
            return None;
        };
        Some(items.iter().filter_map(|(key, value)| match (self.values.get(*key)?, self.values.get(*value)?) {
            (Value::Text(name), value) => Some((name, value)),
            _ => None,
        }))
    }
}
