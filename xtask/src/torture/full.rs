//! A disk that is full: a small tmpfs.

use super::run::{Bench, curve, emptied, is_saving, said, wait};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Trains on file systems of several small sizes; each time the run must end with one clear line, keep its last
/// checkpoint, and continue once there is room.
pub fn part(bench: &Bench) -> Result<String, String> {
    let place = emptied(bench.work.join("full"))?;
    let mut ended = Vec::new();
    // Hardly anything: the log meets the end. A little more: the check before a checkpoint. Room that another
    // program takes away in the middle: whatever is being written then.
    for (kib, ballast) in
        [(64, None), (512, None), (4_600, None), (16_384, Some(5)), (16_384, Some(31)), (16_384, Some(62))]
    {
        let mounted = match mount(&place, kib, "") {
            Ok(mounted) => mounted,
            Err(e) => return Ok(format!("NOT RUN: {e}")),
        };
        let folder = place.join("run");
        let mut command = bench.train(&folder, &[]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
        if let Some(steps) = ballast {
            wait(&mut child, || curve(&folder).is_ok_and(|c| c.len() >= steps) && is_saving(&folder));
            fill(&place.join("ballast"));
        }
        let output = child.wait_with_output().map_err(|e| e.to_string())?;
        let text = said(&output);
        let what = format!("{kib} KiB{}", ballast.map_or(String::new(), |n| format!(", taken away after step {n}")));
        if output.status.code() != Some(1) || !text.contains("error: ") || text.contains("panicked") {
            return Err(format!("{what}: {text}"));
        }
        let steps = curve(&folder)?.len();
        let _ = fs::remove_file(place.join("ballast"));
        mount(&place, 65_536, "remount,")?;
        let continued = bench.finish(&folder)?;
        if ballast.is_some() && !continued.contains("continuing after step") {
            return Err(format!("{what}: the checkpoints are lost: {continued}"));
        }
        ended.push(format!("{what}: {steps}"));
        drop(mounted);
    }
    Ok(format!("each ended with one line and went on bit for bit; steps until then: {}", ended.join("; ")))
}

/// Takes all room that is left.
fn fill(path: &Path) {
    if let Ok(mut file) = File::create(path) {
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }
}

/// A mounted file system, unmounted when dropped.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

fn mount<'a>(place: &'a Path, kib: usize, how: &str) -> Result<Option<Mounted<'a>>, String> {
    let options = format!("{how}size={kib}k");
    let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(place).output();
    let output = output.map_err(|e| format!("mount: {e}"))?;
    if !output.status.success() {
        return Err(format!("a tmpfs cannot be mounted here (only root can): {}", said(&output)));
    }
    let _ = fs::metadata(place);
    Ok(how.is_empty().then(|| Mounted(place)))
}
