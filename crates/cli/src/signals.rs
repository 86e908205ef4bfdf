//! Signals that ask a training to save and end.

use signal_hook::{consts, flag};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Exit code of a run that was told to stop and has saved: the "try again" of `sysexits.h`.
pub const STOPPED: u8 = 75;

/// Exit code after a second Ctrl-C, as shells have it for the first.
const INTERRUPTED: i32 = 130;

/// A flag that SIGTERM, Ctrl-C and, for SLURM, SIGUSR1 set. Ctrl-C once it is set ends the process at once, which
/// damages nothing: files are replaced in one move.
pub fn stop() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    flag::register_conditional_shutdown(consts::SIGINT, INTERRUPTED, Arc::clone(&stop))?;
    for signal in [consts::SIGINT, consts::SIGTERM] {
        flag::register(signal, Arc::clone(&stop))?;
    }
    #[cfg(unix)]
    flag::register(consts::SIGUSR1, Arc::clone(&stop))?;
    Ok(stop)
}
