//! Errors of evaluations.

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
    /// An array or image of the wrong size.
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
    #[error("the feature of token {token} is non-finite")]
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
    /// Results that cannot be read, drawn or written.
    #[error("{}: {reason}", path.display())]
    Results {
        /// The file or folder.
        path: std::path::PathBuf,
        /// Why, and what is needed.
        reason: String,
    },
    /// A video that cannot be scored at all.
    #[error("sequence {sequence}: {reason}")]
    Sequence {
        /// Name of the sequence.
        sequence: String,
        /// Why, and what is needed.
        reason: String,
    },
    /// Another error, at a known frame.
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
    /// An [`Error::Results`] of a file or folder.
    pub(crate) fn results(path: &std::path::Path, reason: impl ToString) -> Self {
        Self::Results { path: path.to_path_buf(), reason: reason.to_string() }
    }

    /// An [`Error::Shape`] from anything that can be displayed.
    pub(crate) fn shape(what: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Self::Shape { what, expected: expected.to_string(), found: found.to_string() }
    }
}
