//! Builds with the cargo feature `cuda`, on machines without a GPU and without an installed CUDA toolkit too.

mod environment;
mod files;
mod pack;
mod stub;
mod toolkit;
mod wheels;

pub use environment::{Purpose, Variables, root, variables};
pub use pack::pack_gpu;
pub use toolkit::cuda_toolkit;

use std::path::PathBuf;
use std::process::ExitCode;

/// Reads the arguments of a command that has one flag, which takes a path. Else the command is over with a code:
/// the help was asked for, or the arguments are wrong.
pub(crate) fn path_flag(args: &[String], flag: &str, help: &str) -> Result<Option<PathBuf>, ExitCode> {
    let path = match args {
        [] => return Ok(None),
        [only] if only == "-h" || only == "--help" => {
            say!("{}", help.trim_end());
            return Err(ExitCode::SUCCESS);
        }
        [name, path] if name == flag => Some(path.as_str()),
        [one] => one.strip_prefix(flag).and_then(|rest| rest.strip_prefix('=')),
        _ => None,
    };
    match path.map(std::path::absolute) {
        Some(Ok(path)) => Ok(Some(path)),
        _ => {
            note!("error: {:?} is not understood\n\n{}", args.join(" "), help.trim_end());
            Err(ExitCode::from(2))
        }
    }
}

/// The last line that a program wrote which is not empty.
fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it says nothing").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_one_flag() {
        let of = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(|a| a.to_string()).collect();
            path_flag(&args, "--dir", "help\n")
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["--dir", "/x"]), Ok(Some("/x".into())));
        assert_eq!(of(&["--dir=/x"]), Ok(Some("/x".into())));
        assert_eq!(of(&["--help"]), Err(ExitCode::SUCCESS));
        for wrong in [&["--dir"][..], &["--directory=/x"], &["--dir", "/x", "more"], &["--dir="]] {
            assert_eq!(of(wrong), Err(ExitCode::from(2)), "{wrong:?}");
        }
    }

    #[test]
    fn the_last_line_has_the_reason() {
        assert_eq!(last_line(b"one\nERROR: two\n\n"), "ERROR: two");
        assert_eq!(last_line(b""), "it says nothing");
    }
}
