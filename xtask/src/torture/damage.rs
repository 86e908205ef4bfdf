//! Damage to the newest checkpoint: one bit flipped in every 4 KiB, and each of its files cut short or gone.

use super::run::{Bench, said};
use std::fs;
use std::path::{Path, PathBuf};

const BLOCK: usize = 4096;

/// Damages the newest checkpoint of a finished run in every way, and continues each time.
pub fn part(bench: &Bench) -> Result<String, String> {
    let folder = bench.work.join("damage");
    bench.finish(&folder)?;
    let newest = newest(&folder)?;
    let files = files(&newest)?;
    let mut tried = 0;
    for (path, whole) in &files {
        let mut damages: Vec<Option<Vec<u8>>> = vec![None, Some(whole[..whole.len() / 2].to_vec())];
        for place in (0..whole.len()).step_by(BLOCK) {
            let mut bytes = whole.clone();
            let at = (place + (place / BLOCK * 997) % BLOCK).min(whole.len() - 1);
            bytes[at] ^= 1 << (place / BLOCK % 8);
            damages.push(Some(bytes));
        }
        for damage in damages {
            let outcome = match damage {
                Some(bytes) => fs::write(path, bytes),
                None => fs::remove_file(path),
            };
            outcome.map_err(|e| format!("{}: {e}", path.display()))?;
            let told = bench.finish(&folder)?;
            if !told.contains("passed over") {
                return Err(format!("damage {tried} in {} is not noticed: {told}", path.display()));
            }
            tried += 1;
            // The steps were made again, and the checkpoint with them.
            if fs::read(path).map_err(|e| e.to_string())? != *whole {
                return Err(format!("{} was not written anew", path.display()));
            }
        }
    }
    all_damaged(bench, &folder)?;
    Ok(format!(
        "{tried} damages in {} files, all noticed, the older checkpoint used; with all damaged: refused",
        files.len()
    ))
}

/// With no whole checkpoint left the run is refused and nothing is begun anew.
fn all_damaged(bench: &Bench, folder: &Path) -> Result<(), String> {
    for entry in fs::read_dir(folder.join("checkpoints")).map_err(|e| e.to_string())?.flatten() {
        fs::write(entry.path().join("state.json"), "{").map_err(|e| e.to_string())?;
    }
    let log = fs::read(folder.join("log.jsonl")).map_err(|e| e.to_string())?;
    let output = bench.train(folder, &[]).output().map_err(|e| e.to_string())?;
    let same = fs::read(folder.join("log.jsonl")).is_ok_and(|now| now == log);
    match output.status.code() == Some(1) && said(&output).contains("no checkpoint can be used") && same {
        true => Ok(()),
        false => Err(format!("with all checkpoints damaged: {}", said(&output))),
    }
}

fn newest(folder: &Path) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder.join("checkpoints")).map_err(|e| e.to_string())?;
    entries.flatten().map(|e| e.path()).max().ok_or("there is no checkpoint".into())
}

fn files(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let entries = fs::read_dir(folder).map_err(|e| e.to_string())?.flatten();
    entries.map(|e| fs::read(e.path()).map(|bytes| (e.path(), bytes)).map_err(|e| e.to_string())).collect()
}
