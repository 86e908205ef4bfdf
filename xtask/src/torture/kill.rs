//! `kill -9` at random moments, every second time while a checkpoint is being written.

use super::run::{Bench, curve, emptied, is_saving, wait};
use std::process::Stdio;
use std::time::Duration;

/// Kills a training `kills` times, continuing it each time; a run that completes is begun anew.
pub fn part(bench: &Bench, kills: usize, seed: u64) -> Result<String, String> {
    let folder = bench.work.join("kill");
    let (mut done, mut in_save, mut runs, mut records, mut state) = (0, 0, 0, 0, seed);
    emptied(folder.clone())?;
    while done < kills {
        let mut child = bench
            .train(&folder, &[])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        let saving = done % 2 == 1;
        // The others anywhere: before the first step, between two, while the log is written.
        std::thread::sleep(Duration::from_micros(random(&mut state) % 1_200_000));
        let caught = saving && wait(&mut child, || is_saving(&folder));
        let alive = matches!(child.try_wait(), Ok(None));
        child.kill().map_err(|e| e.to_string())?;
        let output = child.wait_with_output().map_err(|e| e.to_string())?;
        if !alive {
            // It came to its end, or failed, by itself.
            if !output.status.success() {
                return Err(format!("after {done} kills the run fails: {}", super::run::said(&output)));
            }
            records += curve(&folder)?.len();
            bench.finish(&folder)?;
            runs += 1;
            emptied(folder.clone())?;
            continue;
        }
        done += 1;
        in_save += usize::from(caught);
        let wrong = bench.mismatches(&folder)?;
        if !wrong.is_empty() {
            return Err(format!("after {done} kills losses differ at steps {wrong:?}"));
        }
    }
    records += curve(&folder)?.len();
    bench.finish(&folder)?;
    Ok(format!("{kills} kills, {in_save} during a save, {} runs completed, {records} records, 0 mismatches", runs + 1))
}

/// A number of the sequence of splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
