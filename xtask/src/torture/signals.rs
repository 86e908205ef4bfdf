//! Signals that ask to save and end.

use super::run::{Bench, curve, emptied, said, wait};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The exit codes that `docs/running.md` promises.
const STOPPED: i32 = 75;
const INTERRUPTED: i32 = 130;

/// Sends each signal in the middle of a run, then goes on.
pub fn part(bench: &Bench) -> Result<String, String> {
    let mut slowest = Duration::ZERO;
    for signal in ["TERM", "USR1", "INT", "HUP"] {
        let folder = emptied(bench.work.join("signal"))?;
        for steps in [5, 40, 80] {
            let (before, time, output) = disturbed(bench, &folder, steps, &[signal])?;
            slowest = slowest.max(time);
            if output.status.code() != Some(STOPPED) {
                return Err(format!("SIG{signal}: code {:?}, not {STOPPED}: {}", output.status.code(), said(&output)));
            }
            let after = curve(&folder)?.len();
            // The step at hand, and one whose line was on its way.
            if after > before + 2 {
                return Err(format!("SIG{signal}: {} more steps", after - before));
            }
            let expected = format!("checkpoints/step-{after:06}/state.json");
            if !folder.join(&expected).exists() {
                return Err(format!("SIG{signal}: there is no {expected}"));
            }
        }
        bench.finish(&folder)?;
    }
    let folder = emptied(bench.work.join("signal"))?;
    let mut twice = 0;
    for steps in [10, 30, 50, 70] {
        let (_, _, output) = disturbed(bench, &folder, steps, &["INT", "INT"])?;
        match output.status.code() {
            Some(INTERRUPTED) => twice += 1,
            // The run was faster than the second signal.
            Some(STOPPED) => {}
            code => return Err(format!("two Ctrl-C: code {code:?}: {}", said(&output))),
        }
        let wrong = bench.mismatches(&folder)?;
        if !wrong.is_empty() {
            return Err(format!("two Ctrl-C: losses differ at {wrong:?}"));
        }
    }
    bench.finish(&folder)?;
    Ok(format!(
        "TERM, USR1, INT, HUP saved within a step, at most {:.0} ms, code {STOPPED}; two INT ended {twice} of 4 at once, code \
         {INTERRUPTED}",
        slowest.as_secs_f64() * 1e3
    ))
}

/// Starts the run, sends signals once `steps` steps are logged, and waits for its end: the steps logged when the
/// first was sent, and how long the end took.
fn disturbed(
    bench: &Bench,
    folder: &Path,
    steps: usize,
    signals: &[&str],
) -> Result<(usize, Duration, Output), String> {
    let mut command = bench.train(folder, &[]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
    let logged = || curve(folder).map_or(0, |c| c.len());
    if !wait(&mut child, || logged() >= steps) {
        return Err(format!("the run never came to step {steps}"));
    }
    let (before, start) = (logged(), Instant::now());
    for signal in signals {
        send(&child, signal)?;
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    Ok((before, start.elapsed(), output))
}

fn send(child: &Child, signal: &str) -> Result<(), String> {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status();
    status.map(|_| ()).map_err(|e| format!("kill: {e}"))
}
