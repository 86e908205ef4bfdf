//! A checkpoint reaches the disk whole or not at all.

use super::header::{FORMAT, Header, digest};
use super::{State, list};
use crate::{Error, Settings};
use selfpatch_weights::write_safetensors;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Bytes that a checkpoint takes beside its tensors: headers, state, folders.
const BESIDE: u64 = 4 << 20;

/// Where in a run a state was taken.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Finished steps.
    pub step: usize,
    /// Images of the data.
    pub images: usize,
}

/// Writes `state` into the folder of its run and removes older checkpoints, but for the newest few and the
/// milestones, which lie at multiples of `milestone` steps. Returns the checkpoint's folder.
///
/// # Errors
/// A disk without enough room is an error before anything is written; whatever fails leaves the older checkpoints as
/// they are.
pub fn write<S: Settings>(
    settings: &S,
    moment: Moment,
    state: &State,
    milestone: Option<usize>,
) -> Result<PathBuf, Error> {
    let run = settings.common().folder;
    let folder = run.join("checkpoints");
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    check_room(&folder, state.bytes() + BESIDE)?;
    let name = format!("step-{:06}", moment.step);
    let (path, temporary) = (folder.join(&name), folder.join(format!(".{name}.tmp")));
    remove(&temporary)?;
    fs::create_dir_all(&temporary).map_err(Error::io(&temporary))?;
    if let Err(e) = fill(&temporary, settings, moment, state) {
        // Room that a half-written checkpoint takes helps nobody.
        let _ = fs::remove_dir_all(&temporary);
        return Err(e);
    }
    // There is one already where a damaged checkpoint was passed over and its steps were made again. It goes only
    // when the new one stands.
    let aside = folder.join(format!(".{name}.old"));
    remove(&aside)?;
    if path.exists() {
        fs::rename(&path, &aside).map_err(Error::io(&path))?;
    }
    fs::rename(&temporary, &path).map_err(Error::io(&path))?;
    synced(&folder)?;
    remove(&aside)?;
    let is_milestone = |step: usize| milestone.is_some_and(|every| step > 0 && step.is_multiple_of(every));
    // Later ones are damaged, or this one would not have come after them.
    let others = list(run)?.into_iter().rev().filter(|(step, _)| *step <= moment.step && !is_milestone(*step));
    for (_, old) in others.skip(settings.common().checkpoint.keep) {
        remove(&old)?;
    }
    Ok(path)
}

fn fill<S: Settings>(folder: &Path, settings: &S, moment: Moment, state: &State) -> Result<(), Error> {
    let mut files = BTreeMap::new();
    for (name, tensors) in &state.files {
        let name = format!("{name}.safetensors");
        write_safetensors(&folder.join(&name), tensors, &state.metadata)?;
        let digest = digest(&folder.join(&name))?;
        files.insert(name, digest);
    }
    put(&folder.join("config.toml"), settings.to_toml()?.as_bytes())?;
    files.insert("config.toml".into(), digest(&folder.join("config.toml"))?);
    let Moment { step, images } = moment;
    let header = Header { format: FORMAT, step, images, values: state.values.clone(), files };
    let text = serde_json::to_string_pretty(&header)
        .map_err(|e| Error::File { path: folder.join("state.json"), reason: e.to_string() })?;
    put(&folder.join("state.json"), text.as_bytes())?;
    put(&folder.join("state.b3"), blake3::hash(text.as_bytes()).to_hex().as_bytes())?;
    synced(folder)
}

/// Writes a small file and waits until the disk has it.
fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    use std::io::Write;
    let mut file = File::create(path).map_err(Error::io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(path))
}

/// Waits until the disk has the entries of a folder.
fn synced(folder: &Path) -> Result<(), Error> {
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(folder))?;
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(folder)(e)),
        _ => Ok(()),
    }
}

fn check_room(folder: &Path, needed: u64) -> Result<(), Error> {
    // Some file systems do not tell; then writing finds out.
    match fs4::available_space(folder) {
        Ok(free) if free < needed => {
            let gigabytes = |bytes: u64| bytes as f64 / 1e9;
            Err(Error::File {
                path: folder.into(),
                reason: format!(
                    "a checkpoint needs {:.3} GB, the disk has {:.3} GB left; earlier checkpoints are untouched. Make \
                     room (checkpoint.keep says how many are kept) and start the same command again",
                    gigabytes(needed),
                    gigabytes(free)
                ),
            })
        }
        _ => Ok(()),
    }
}
