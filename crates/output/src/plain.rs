//! Errors as they are shown to users.

use std::error::Error;

/// An error and its causes on one line, without the backtraces in the messages of tensor errors. A cause that is
/// quoted by the error before it is left out.
pub fn plain(e: &dyn Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in std::iter::successors(Some(e), |&e| e.source()) {
        let text = cause.to_string();
        let lines = text.lines().take_while(|l| !l.trim_start().starts_with("0: "));
        let line = lines.map(str::trim).collect::<Vec<_>>().join(" ");
        if !parts.iter().any(|p| p.contains(&line)) {
            parts.push(line);
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::{Display, Formatter, Result};

    /// An error and what caused it.
    #[derive(Debug)]
    struct Caused(&'static str, Option<Box<Caused>>);

    impl Display for Caused {
        fn fmt(&self, f: &mut Formatter) -> Result {
            f.write_str(self.0)
        }
    }

    impl Error for Caused {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &dyn Error)
        }
    }

    #[test]
    fn causes_are_joined_and_backtraces_cut() {
        let shape = Caused("bad shape\n   0: some::frame\n   1: another", None);
        let file = Caused("weights.pth", Some(Box::new(shape)));
        assert_eq!(plain(&file), "weights.pth: bad shape");
        let quoted = Caused("the step failed: weights.pth", Some(Box::new(file)));
        assert_eq!(plain(&quoted), "the step failed: weights.pth: bad shape");
    }
}
