//! What a program says on standard output and standard error, and what it does when nobody can read it.
//!
//! `println!` and `eprintln!` panic when a write fails: the disk is full, the reader of a pipe has left, the terminal is
//! gone. [`say!`] and [`note!`] take the same arguments and never fail. The first write that standard output refused is
//! kept in [`lost`]; [`ended`] makes an exit code of it for programs whose result is what they print.
//!
//! ```
//! use selfpatch_output::{ended, note, say};
//! use std::process::ExitCode;
//!
//! say!("{} of {}", 1, 2); // a line to standard output
//! note!("warning: {}", "slow"); // a line to standard error
//! assert_eq!(ended(ExitCode::SUCCESS), ExitCode::SUCCESS); // both could be written
//! ```
//!
//! A stream that is closed when the program starts is opened on `/dev/null` by Rust's runtime: what goes there counts as
//! written.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

/// Exit code of a command whose output could not be written: the "input/output error" of `sysexits.h`.
pub const UNWRITTEN: u8 = 74;

/// Exit code of a command whose reader closed the pipe, as `| head -1` does: what shells report for a program that
/// SIGPIPE ended.
pub const UNREAD: u8 = 141;

/// The first write to standard output that failed.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Writes a line to standard output. Takes what `println!` takes; a write that fails is kept in [`lost`].
#[macro_export]
macro_rules! say {
    () => { $crate::to_output(::std::format_args!("")) };
    ($($text:tt)*) => { $crate::to_output(::std::format_args!($($text)*)) };
}

/// Writes a line to standard error. Takes what `eprintln!` takes; that a write fails goes unnoticed, as there is no
/// place left to tell it.
#[macro_export]
macro_rules! note {
    () => { $crate::to_error(::std::format_args!("")) };
    ($($text:tt)*) => { $crate::to_error(::std::format_args!($($text)*)) };
}

/// What [`say!`] calls.
#[doc(hidden)]
pub fn to_output(text: Arguments) {
    if let Err(e) = write(&mut *streams::output(), text) {
        lose(e);
    }
}

/// What [`note!`] calls.
#[doc(hidden)]
pub fn to_error(text: Arguments) {
    let _ = write(&mut *streams::error(), text);
}

/// Keeps a failure of standard output that did not come from [`say!`]; the first one counts.
pub fn lose(e: io::Error) {
    let _ = LOST.set(e);
}

/// Why standard output did not take something, if that has happened.
pub fn lost() -> Option<&'static io::Error> {
    LOST.get()
}

/// The exit code of a program whose result is what it printed: `done`, but if the output was lost not success. A reader
/// that left is told nothing and gives [`UNREAD`]; everything else is told on standard error and gives [`UNWRITTEN`].
pub fn ended(done: ExitCode) -> ExitCode {
    let Some(e) = lost() else { return done };
    let instead = match e.kind() {
        ErrorKind::BrokenPipe => UNREAD,
        _ => {
            note!("error: standard output could not be written: {e}");
            UNWRITTEN
        }
    };
    if done == ExitCode::SUCCESS { instead.into() } else { done }
}

/// Writes a line as a whole, so that lines of several threads or processes do not mix.
fn write(to: &mut dyn Write, text: Arguments) -> io::Result<()> {
    let line = format!("{text}\n");
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => rest = &rest[n..],
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            // Somebody who shares the stream has set it not to wait; its reader is only slow.
            Err(e) if e.kind() == ErrorKind::WouldBlock => sleep(Duration::from_millis(10)),
            Err(e) => return Err(e),
        }
    }
    to.flush()
}

/// The streams without the buffers of the standard library, which hide that a stream is not open for writing and keep
/// what could not be written for later.
#[cfg(unix)]
mod streams {
    use std::fs::File;
    use std::io::{self, Write};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::sync::OnceLock;

    fn duplicate(stream: BorrowedFd) -> Option<File> {
        stream.try_clone_to_owned().ok().map(File::from)
    }

    pub fn output() -> Box<dyn Write> {
        static OUTPUT: OnceLock<Option<File>> = OnceLock::new();
        match OUTPUT.get_or_init(|| duplicate(io::stdout().as_fd())) {
            Some(file) => Box::new(file),
            None => Box::new(io::stdout()),
        }
    }

    pub fn error() -> Box<dyn Write> {
        static ERROR: OnceLock<Option<File>> = OnceLock::new();
        match ERROR.get_or_init(|| duplicate(io::stderr().as_fd())) {
            Some(file) => Box::new(file),
            None => Box::new(io::stderr()),
        }
    }
}

#[cfg(not(unix))]
mod streams {
    use std::io::{self, Write};

    pub fn output() -> Box<dyn Write> {
        Box::new(io::stdout())
    }

    pub fn error() -> Box<dyn Write> {
        Box::new(io::stderr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that takes two bytes at a time and answers every other call with an error.
    struct Stream {
        taken: Vec<u8>,
        calls: usize,
        every_other: ErrorKind,
    }

    impl Write for Stream {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(2) {
                return Err(self.every_other.into());
            }
            let bytes = &bytes[..bytes.len().min(2)];
            self.taken.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(every_other: ErrorKind) -> (String, io::Result<()>) {
        let mut stream = Stream { taken: Vec::new(), calls: 0, every_other };
        let outcome = write(&mut stream, format_args!("a line"));
        (String::from_utf8_lossy(&stream.taken).into_owned(), outcome)
    }

    #[test]
    fn slow_and_interrupted_streams_get_all_and_broken_ones_end_the_write() {
        for kind in [ErrorKind::WouldBlock, ErrorKind::Interrupted] {
            let (text, outcome) = written(kind);
            assert!(outcome.is_ok() && text == "a line\n", "{kind:?}: {text:?}");
        }
        let (text, outcome) = written(ErrorKind::BrokenPipe);
        assert_eq!((text.as_str(), outcome.map_err(|e| e.kind())), ("a ", Err(ErrorKind::BrokenPipe)));
    }

    #[test]
    fn a_stream_that_takes_nothing_is_an_error_and_no_endless_loop() {
        let mut full: &mut [u8] = &mut [];
        let outcome = write(&mut full, format_args!("a"));
        assert_eq!(outcome.map_err(|e| e.kind()), Err(ErrorKind::WriteZero));
    }
}
