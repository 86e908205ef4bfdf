//! Everything that can stop an evaluation.

/// An error that names the setting, array or frame at fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The videos could not be read.
    #[error(transparent)]
    Data(#[from] selfpatch_datasets::Error),
    /// The model could not turn a frame into features.
    #[error("the model failed: {0}")]
    Model(String),
    /// A setting outside its range.
    #[error("{field}: {reason}")]
    Config {
        /// The setting.
        field: &'static str,
        /// What is wrong and which values are valid.
        reason: String,
    },
    /// An array or image whose size does not fit the others.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// The array.
        what: &'static str,
        /// The size it should have.
        expected: String,
        /// The size it has.
        found: String,
    },
    /// Images that cannot be classified.
    #[error("{0}")]
    Images(String),
    /// A feature that is NaN or infinite (or whose norm overflows `f32`).
    #[error("the feature of token {token} is not finite")]
    NotFinite {
        /// Index of the token in row-major order.
        token: usize,
    },
    /// A result that cannot be written.
    #[error("cannot write {path}: {reason}")]
    Output {
        /// The file or folder.
        path: std::path::PathBuf,
        /// The operating system's reason.
        reason: String,
    },
    /// A video that cannot be scored as a whole.
    #[error("sequence {sequence}: {reason}")]
    Sequence {
        /// Name of the sequence.
        sequence: String,
        /// Why, and what is needed.
        reason: String,
    },
    /// Any of the above, at a known frame.
    #[error("sequence {sequence}, frame {frame}: {source}")]
    Frame {
        /// Name of the sequence.
        sequence: String,
        /// Index of the frame, counted from 0.
        frame: usize,
        /// What went wrong there.
        source: Box<Error>,
    },
}

impl Error {
    /// A [`Error::Shape`] from anything that prints.
    pub(crate) fn shape(what: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Self::Shape { what, expected: expected.to_string(), found: found.to_string() }
    }
}
