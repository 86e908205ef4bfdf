//! The part of Python's pickle language that `torch.save` writes, read as plain data.
//!
//! Nothing is ever executed or imported: names from a fixed list of Python objects determine what a value *means*
//! here, and every other name is refused. Values live in one arena and refer to each other by index, so shared and
//! even cyclic structures cost nothing to hold or to drop.

use std::sync::Arc;

use crate::machine::Machine;
use crate::reader::Stop;
use crate::value::{Id, Value};

/// Largest pickle in bytes; that of a ViT with its optimiser states is well below 1 MiB.
const MAX_BYTES: usize = 32 << 20;

/// Why a pickle was refused.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Malformed, or outside the subset: byte position and reason.
    Malformed(usize, String),
    /// A Python name that is not on the list.
    Global(String),
}

/// All values of one pickle, and the index of the result.
pub(crate) struct Document {
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

    /// The entries of the pickled object if it is a dict.
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
