//! Everything that can go wrong while reading images and videos.

use std::path::{Path, PathBuf};

/// An error that names the file or setting at fault and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A path that does not exist or cannot be read or written.
    #[error("cannot access {path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file that is not the image it should be.
    #[error("cannot decode {path}: {reason}")]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        reason: String,
    },
    /// An image that cannot be stored in the wanted format.
    #[error("cannot encode {path}: {reason}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// The encoder's reason.
        reason: String,
    },
    /// A folder without anything to use.
    #[error("{path}: {reason}")]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What is missing and what was expected.
        reason: String,
    },
    /// A setting outside its range.
    #[error("{field}: {reason}")]
    Config {
        /// The configuration field.
        field: &'static str,
        /// What is wrong and which values are valid.
        reason: String,
    },
    /// A name or number that the data does not have.
    #[error("there is no {what}; {valid}")]
    Missing {
        /// What was asked for.
        what: String,
        /// What exists.
        valid: String,
    },
    /// Told to stop by whoever reads.
    #[error("stopped {what}")]
    Stopped {
        /// When, and what stays.
        what: String,
    },
    /// More bad samples than allowed.
    #[error(
        "{count} of {of} images cannot be used, more than {:.3} % of them (--max-bad); they are {}",
        max_bad * 100.,
        shortened(list)
    )]
    TooManyBad {
        /// Number of samples that cannot be used.
        count: usize,
        /// Number of all samples.
        of: usize,
        /// The part that was allowed.
        max_bad: f64,
        /// Name and reason of each.
        list: Vec<String>,
    },
}

impl Error {
    /// An [`Error::Io`] about `path`.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_path_buf();
        Self::Io { path, source }
    }

    /// An [`Error::Decode`] about `path`.
    pub(crate) fn decode(path: &Path, reason: impl ToString) -> Self {
        let (path, reason) = (path.to_path_buf(), reason.to_string());
        Self::Decode { path, reason }
    }

    /// An [`Error::Encode`] about `path`.
    pub(crate) fn encode(path: &Path, reason: impl ToString) -> Self {
        let (path, reason) = (path.to_path_buf(), reason.to_string());
        Self::Encode { path, reason }
    }

    /// An [`Error::Layout`] about `path`.
    pub(crate) fn layout(path: &Path, reason: impl Into<String>) -> Self {
        let (path, reason) = (path.to_path_buf(), reason.into());
        Self::Layout { path, reason }
    }
}

/// The first entries of a list.
fn shortened(list: &[String]) -> String {
    const MOST: usize = 50;
    let mut text = list.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join("; ");
    if list.len() > MOST {
        text += &format!("; and {} more", list.len() - MOST);
    }
    text
}
