//! How names and shapes differ.

use std::fmt;
use std::path::PathBuf;

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

/// The first names, then the number of further ones.
pub(crate) fn listing<S: AsRef<str>>(names: &[S]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    let mut text = names.iter().take(LISTED).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(", … and {} more", names.len() - LISTED));
    }
    text
}
