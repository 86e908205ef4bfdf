//! All state of a task at one moment, apart from the task itself.

use candle_core::{Device, Result, Tensor};
use serde::Serialize;
use serde_json::{Map, Value};

/// Tensors with their names.
pub type Named = Vec<(String, Tensor)>;

/// What a task must get back to go on as if it had not been interrupted.
///
/// The tensors are copies in the memory of the host, so that the task can go on while they are written.
#[derive(Debug, Default)]
pub struct State {
    /// Names of files without extension, such as `student`, and the tensors that they hold.
    pub files: Vec<(&'static str, Named)>,
    /// Counts and the like, which `state.json` holds.
    pub values: Map<String, Value>,
    /// Metadata of the files of tensors.
    pub metadata: Vec<(String, String)>,
}

impl State {
    /// A state without tensors and values.
    pub fn new(metadata: Vec<(String, String)>) -> Self {
        Self { metadata, ..Self::default() }
    }

    /// The state with one more file of tensors, which are copied to the host.
    ///
    /// # Errors
    /// When a tensor cannot be copied.
    pub fn with_tensors(mut self, file: &'static str, tensors: Named) -> Result<Self> {
        let copy = |(name, t): (String, Tensor)| Ok((name, t.force_contiguous()?.to_device(&Device::Cpu)?));
        self.files.push((file, tensors.into_iter().map(copy).collect::<Result<_>>()?));
        Ok(self)
    }

    /// The state with one more value of `state.json`; `None` is left out.
    ///
    /// # Errors
    /// When the value has no form in JSON.
    pub fn with_value(mut self, name: &str, value: Option<&impl Serialize>) -> Result<Self> {
        if let Some(value) = value {
            let value = serde_json::to_value(value).map_err(candle_core::Error::wrap)?;
            self.values.insert(name.into(), value);
        }
        Ok(self)
    }

    /// The tensors of a file; none where there is no such file.
    pub fn tensors(&self, file: &str) -> &[(String, Tensor)] {
        self.files.iter().find(|(name, _)| *name == file).map_or(&[], |(_, tensors)| tensors)
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        let all = self.files.iter().flat_map(|(_, tensors)| tensors);
        all.map(|(_, t)| (t.elem_count() * t.dtype().size_in_bytes()) as u64).sum()
    }
}
