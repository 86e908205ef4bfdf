//! Signals while data is made ready, which takes long where videos are unpacked: it is put away, and the program ends.

use crate::signals::{self, is_ignored};
use selfpatch_datasets::Error;
use signal_hook::low_level::emulate_default_handler;
use signal_hook::{consts, flag};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

/// Signals that end a program, which may put things away before.
#[cfg(unix)]
const ENDING: [i32; 4] = [consts::SIGINT, consts::SIGTERM, consts::SIGHUP, consts::SIGUSR1];
#[cfg(not(unix))]
const ENDING: [i32; 2] = [consts::SIGINT, consts::SIGTERM];

/// The signal that came last, 0 before any.
static LAST: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// Remembers signals, for [`code`]. What is done about them is left as it is.
pub fn remember() -> io::Result<()> {
    for signal in ENDING.into_iter().filter(|signal| !is_ignored(*signal)) {
        flag::register_usize(signal, Arc::clone(&LAST), signal as usize)?;
    }
    Ok(())
}

/// Guard under which signals that would end the program are remembered; once it is dropped they end it again.
pub struct Guard(Arc<AtomicBool>);

impl Guard {
    /// Starts to remember signals.
    pub fn new() -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        for signal in ENDING.into_iter().filter(|signal| !is_ignored(*signal)) {
            flag::register_conditional_default(signal, Arc::clone(&over))?;
        }
        remember()?;
        Ok(Self(over))
    }

    /// Whether a signal has come.
    pub fn stop(&self) -> bool {
        LAST.load(Ordering::Relaxed) != 0
    }

    /// Ends the guard. A signal that came and was of no use to anybody has its effect now.
    pub fn release(self) {
        drop(self);
        match LAST.load(Ordering::Relaxed) {
            0 => {}
            signal => {
                // If it has no effect of its own, there is nothing to do.
                let _ = emulate_default_handler(signal as i32);
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Exit code for an error, if it is that a signal came: as shells have it for the signal; of SIGUSR1, by which
/// schedulers warn, that of a run to be continued.
pub fn code(error: &anyhow::Error) -> Option<u8> {
    let is_stop = error.chain().any(|cause| {
        let own = cause.downcast_ref::<Error>();
        let within = cause.downcast_ref::<selfpatch_train::Error>();
        matches!(own, Some(Error::Stopped { .. }))
            || matches!(within, Some(selfpatch_train::Error::Data(Error::Stopped { .. })))
    });
    let signal = LAST.load(Ordering::Relaxed);
    #[cfg(unix)]
    if is_stop && signal == consts::SIGUSR1 as usize {
        return Some(signals::STOPPED);
    }
    is_stop.then(|| u8::try_from(128 + signal).ok().filter(|_| signal > 0).unwrap_or(signals::STOPPED))
}
