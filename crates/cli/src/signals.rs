//! Signals: what asks a training to save and end, what is done before any other command ends, and what ends none.

use signal_hook::{consts, flag};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

/// Exit code of a run that was told to stop and has saved: the "try again" of `sysexits.h`.
pub const STOPPED: u8 = 75;

/// Exit code after a second Ctrl-C, as shells have it for the first.
const INTERRUPTED: i32 = 130;

/// Signals that end a program which does not ask for them: Ctrl-C, `kill`, and a terminal that is closed.
#[cfg(unix)]
const ENDING: [i32; 3] = [consts::SIGINT, consts::SIGTERM, consts::SIGHUP];
#[cfg(not(unix))]
const ENDING: [i32; 2] = [consts::SIGINT, consts::SIGTERM];

/// Set by a write beyond the limit on the size of files.
static TOO_LARGE: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Makes a write beyond the limit on the size of files (`ulimit -f`) an error, as on a full disk, which does not end
/// the program. Where the signal was ignored at the start, as by Python, the error says so all the same.
pub fn outlive_file_limit() -> io::Result<()> {
    #[cfg(unix)]
    flag::register(consts::SIGXFSZ, Arc::clone(&TOO_LARGE))?;
    Ok(())
}

/// What to add to an error after a write beyond the limit on the size of files.
pub fn file_limit() -> Option<&'static str> {
    let met = TOO_LARGE.load(Ordering::Relaxed);
    met.then_some(
        "a file has met the limit on the size of files (`ulimit -f`): raise it and start the same command again",
    )
}

/// A flag that Ctrl-C, SIGTERM, SIGHUP and, for SLURM, SIGUSR1 set. Ctrl-C once it is set ends the process at once,
/// which damages nothing: files are replaced in one move.
///
/// A signal that was ignored when the program started stays so, as `nohup` (SIGHUP) and shells that start jobs in the
/// background (SIGINT) want it.
pub fn stop() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    if !is_ignored(consts::SIGINT) {
        // Before the handler that sets the flag, so that it is the second one that ends the process.
        flag::register_conditional_shutdown(consts::SIGINT, INTERRUPTED, Arc::clone(&stop))?;
    }
    for signal in ENDING {
        set_by(signal, &stop)?;
    }
    #[cfg(unix)]
    set_by(consts::SIGUSR1, &stop)?;
    Ok(stop)
}

fn set_by(signal: i32, stop: &Arc<AtomicBool>) -> io::Result<()> {
    if !is_ignored(signal) {
        flag::register(signal, Arc::clone(stop))?;
    }
    Ok(())
}

/// Has `clean` run before Ctrl-C, SIGTERM or SIGHUP ends the program, at once and by that signal, as usual.
#[cfg(unix)]
pub fn before_end(clean: impl FnOnce() + Send + 'static) -> io::Result<()> {
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;
    let mut signals = Signals::new(ENDING.into_iter().filter(|signal| !is_ignored(*signal)))?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            clean();
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

/// Cleans nothing on systems without the signals of Unix.
#[cfg(not(unix))]
pub fn before_end(_: impl FnOnce() + Send + 'static) -> io::Result<()> {
    Ok(())
}

/// Whether whoever started this program wants it to ignore `signal`; to be asked before a handler is registered.
#[cfg(unix)]
pub fn is_ignored(signal: i32) -> bool {
    let mut found = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call only asks; `found` is valid for writes.
    let answered = unsafe { libc::sigaction(signal, std::ptr::null(), found.as_mut_ptr()) } == 0;
    // SAFETY: a call that returned 0 has filled it.
    answered && unsafe { found.assume_init() }.sa_sigaction == libc::SIG_IGN
}

#[cfg(not(unix))]
pub fn is_ignored(_: i32) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_rust_ignores_sigpipe_and_no_sigchld() {
        assert!(is_ignored(consts::SIGPIPE) && !is_ignored(consts::SIGCHLD));
    }
}
