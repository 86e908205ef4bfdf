//! Mutants read one after the other: what panicked, what took long.

use crate::Format;
use crate::mutate::mutant;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Longest that one file may take.
pub const LIMIT: Duration = Duration::from_secs(1);

/// What became of some mutants.
#[derive(Default)]
pub struct Trial {
    /// Mutants read as if nothing were wrong.
    pub accepted: usize,
    /// Mutants refused with an error.
    pub refused: usize,
    /// Longest time of one mutant.
    pub slowest: Duration,
    /// Files that should have been refused or read quickly.
    pub faults: Vec<Fault>,
}

/// A file that its reader does not cope with.
pub struct Fault {
    /// Number of the mutant.
    pub number: u64,
    /// What happened to the reader.
    pub what: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// Reads the mutants `numbers` of a format; `before` is given each one first.
///
/// # Errors
/// If there are no seeds, or `before` fails.
pub fn run(
    format: &Format,
    seed: u64,
    numbers: Range<u64>,
    mut before: impl FnMut(u64, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<Trial> {
    let seeds = (format.seeds)()?;
    let mut trial = Trial::default();
    for number in numbers {
        let bytes = mutant(format, &seeds, seed, number);
        before(number, &bytes)?;
        let (outcome, time) = attempt(format, &bytes);
        trial.slowest = trial.slowest.max(time);
        let what = match outcome {
            Err(panic) => format!("panic: {panic}"),
            Ok(_) if time > LIMIT => format!("{:.2} s", time.as_secs_f64()),
            Ok(accepted) => {
                *(if accepted { &mut trial.accepted } else { &mut trial.refused }) += 1;
                continue;
            }
        };
        trial.faults.push(Fault { number, what, bytes });
    }
    Ok(trial)
}

/// Whether a file was accepted, or why its reader panicked, and how long it took: the least of three times
/// where the first is too long, as the machine may be busy.
pub fn attempt(format: &Format, bytes: &[u8]) -> (Result<bool, String>, Duration) {
    let once = || {
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (format.read)(bytes)));
        (outcome.map_err(|told| said(told.as_ref())), start.elapsed())
    };
    let (outcome, mut time) = once();
    for _ in 0..2 {
        if time > LIMIT {
            time = time.min(once().1);
        }
    }
    (outcome, time)
}

fn said(told: &(dyn std::any::Any + Send)) -> String {
    let text = told.downcast_ref::<String>().map(String::as_str);
    text.or(told.downcast_ref::<&str>().copied()).unwrap_or("without a message").to_string()
}
