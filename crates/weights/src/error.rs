//! The reasons for which a weight file is refused.

use std::path::PathBuf;

use crate::mismatch::Mismatch;

/// Errors on reading, matching and writing weight files.
///
/// Each message names the file and says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The operating system refused to open, read, write or rename.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// The failed operation, as a verb: `open`, `read`, `write`, …
        action: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A `.pth` file in the format that PyTorch wrote before 1.6.
    #[error(
        "{}: written in PyTorch's old pickle format, which is not read here; load it in Python and \
         save it again with torch.save(state_dict, path) of PyTorch 1.6 or later, or as safetensors",
        path.display()
    )]
    LegacyPth {
        /// The file concerned.
        path: PathBuf,
    },
    /// A `.pth` file whose zip container is damaged or is not one that `torch.save` writes.
    #[error("{}: not a readable .pth archive: {reason}; download or save it again", path.display())]
    Archive {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A zip entry is compressed; `torch.save` stores its entries as they are.
    #[error(
        "{}: entry `{entry}` is compressed; torch.save stores entries uncompressed, so the file was \
         re-packed: save it again with torch.save",
        path.display()
    )]
    Compressed {
        /// The file concerned.
        path: PathBuf,
        /// The zip entry's name.
        entry: String,
    },
    /// The bytes of a zip entry cannot be read or do not match their CRC-32.
    #[error("{}: entry `{entry}` is damaged ({reason}); download or save the file again", path.display())]
    Damaged {
        /// The file concerned.
        path: PathBuf,
        /// The zip entry's name.
        entry: String,
        /// What the zip reader found.
        reason: String,
    },
    /// The pickle inside a `.pth` file is malformed or uses instructions that `torch.save` does not emit.
    #[error("{}: data.pkl, byte {at}: {reason}; save a plain state_dict with torch.save", path.display())]
    Pickle {
        /// The file concerned.
        path: PathBuf,
        /// Where in `data.pkl` the offending instruction starts.
        at: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The pickle names a Python object outside the short list that weights need.
    #[error(
        "{}: refers to the Python object {name:?}, which is not on the list of known harmless ones; \
         nothing was executed. Save only the tensors: torch.save(model.state_dict(), path)",
        path.display()
    )]
    Global {
        /// The file concerned.
        path: PathBuf,
        /// The object's dotted Python name.
        name: String,
    },
    /// One tensor's description contradicts the bytes stored for it.
    #[error("{}: tensor `{name}`: {reason}; download or save the file again", path.display())]
    Tensor {
        /// The file concerned.
        path: PathBuf,
        /// The tensor's name in the file.
        name: String,
        /// The contradiction.
        reason: String,
    },
    /// A safetensors file that does not parse.
    #[error(
        "{}: neither a .pth archive nor a readable safetensors file ({reason}); if it was downloaded, \
         check its size and fetch it again",
        path.display()
    )]
    Safetensors {
        /// The file concerned.
        path: PathBuf,
        /// What the parser found.
        reason: String,
    },
    /// The checkpoint key that was asked for is not in the file.
    #[error("{}: no weights under the key `{key}`; keys there: {available}", path.display())]
    NoSuchKey {
        /// The file concerned.
        path: PathBuf,
        /// The key asked for.
        key: String,
        /// The keys that exist, for the message.
        available: String,
    },
    /// The chosen part of the file holds no tensor.
    #[error("{}: no named tensors {place}; keys there: {available}", path.display())]
    NoTensors {
        /// The file concerned.
        path: PathBuf,
        /// Where tensors were looked for.
        place: String,
        /// The keys that exist, for the message.
        available: String,
    },
    /// Names or shapes differ from what the model expects.
    #[error(transparent)]
    Mismatch(#[from] Box<Mismatch>),
    /// A tensor cannot be written: repeated or reserved name, or a dtype that the format lacks.
    #[error("{}: cannot write tensor `{name}`: {reason}", path.display())]
    Unwritable {
        /// The file concerned.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Why it cannot be written.
        reason: String,
    },
    /// Candle failed to build or copy a tensor.
    #[error("{}: tensor `{name}`: {source}", path.display())]
    Candle {
        /// The file concerned.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Candle's answer.
        source: Box<candle_core::Error>,
    },
    /// The file has no backbone that can be read, or several without a clear choice.
    #[error("{}: {reason}", path.display())]
    Backbone {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong, and the nearest remedy.
        reason: String,
    },
    /// The tensors do not make up the model that was asked for.
    #[error("{}: {source}", path.display())]
    Model {
        /// The file concerned.
        path: PathBuf,
        /// Candle's error, which says what does not match.
        source: Box<candle_core::Error>,
    },
}
