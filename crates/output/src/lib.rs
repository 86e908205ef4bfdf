//! Output of programs on standard output and standard error that survives failed writes, and errors as one line
//! ([`plain()`]).
//!
//! `println!` and `eprintln!` panic when a write fails: the disk is full, the reader has closed the pipe, the
//! terminal is gone. [`say!`] and [`note!`] take the same arguments and never fail. The first failed write to
//! standard output is kept in [`lost`]; [`ended`] turns it into an exit code for programs whose result is their
//! output.
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
//! A stream that is closed when the program starts is opened on `/dev/null` by Rust's runtime, so output to it counts
//! as written.

mod plain;

pub use plain::plain;

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

/// Exit code of a command whose output could not be written: the "input/output error" of `sysexits.h`.
pub const UNWRITTEN: u8 = 74;

/// Exit code of a command whose reader closed the pipe, as `| head -1` does; shells report the same code for a
/// program that was ended by SIGPIPE.
pub const UNREAD: u8 = 141;

/// The first write to standard output that failed.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Writes a line to standard output, with the arguments of `println!`. A failed write is kept in [`lost`].
#[macro_export]
macro_rules! say {
    () => { $crate::to_output(::std::format_args!("")) };
    ($($text:tt)*) => { $crate::to_output(::std::format_args!($($text)*)) };
}

/// Writes a line to standard error, with the arguments of `eprintln!`. A failed write is ignored, because there is no
/// place left to report it.
#[macro_export]
macro_rules! note {
    () => { $crate::to_error(::std::format_args!("")) };
    ($($text:tt)*) => { $crate::to_error(::std::format_args!($($text)*)) };
}

/// The function behind [`say!`].
#[doc(hidden)]
pub fn to_output(text: Arguments) {
    if let Err(e) = write(&mut *streams::output(), text) {
        lose(e);
    }
}

/// The function behind [`note!`].
#[doc(hidden)]
pub fn to_error(text: Arguments) {
    let _ = write(&mut *streams::error(), text);
}

/// Records a failure of standard output that did not come from [`say!`]; the first one is kept.
pub fn lose(e: io::Error) {
    let _ = LOST.set(e);
}

/// The error of the first failed write to standard output, if there was one.
pub fn lost() -> Option<&'static io::Error> {
    LOST.get()
}

/// The exit code of a program whose result is its output: `done`, but never success if output was lost. If the reader
/// closed the pipe, nothing is reported and the code is [`UNREAD`]; other errors are reported on standard error and
/// give [`UNWRITTEN`].
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

/// Writes a line in one piece, so that lines of several threads or processes do not mix.
fn write(to: &mut dyn Write, text: Arguments) -> io::Result<()> {
    let line = format!("{text}\n");
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => rest = &rest[n..],
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            // Another process that shares the stream has made it non-blocking; its reader is only slow.
            Err(e) if e.kind() == ErrorKind::WouldBlock => sleep(Duration::from_millis(10)),
            Err(e) => return Err(e),
        }
    }
    to.flush()
}

/// The streams without the buffers of the standard library, which hide that a stream is not open for writing and keep
/// for later what could not be written.
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

    /// A stream that accepts two bytes at a time and answers every other call with an error.
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
