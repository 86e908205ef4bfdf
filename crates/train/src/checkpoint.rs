//! Saving and restoring all state of a training.
//!
//! `checkpoints/step-NNNNNN/` holds `student`, `teacher`, `optimizer` and `centers` as safetensors
//! and `state.json` with the step, the optimiser's step counts and a BLAKE3 digest of each file. It
//! is written under another name and renamed when complete.

use crate::export::shapes;
use crate::{Config, Error, Trainer};
use candle_core::{Device, Tensor};
use selfpatch_nn::Params;
use selfpatch_nn::weights::{Weights, check_strict, read, write_safetensors};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Version of the layout; a newer one is refused.
const FORMAT: u32 = 1;

/// `state.json`.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    format: u32,
    /// Finished steps.
    step: usize,
    /// Step count of each parameter in the optimiser.
    optimizer_steps: BTreeMap<String, u64>,
    /// File name to BLAKE3 digest.
    files: BTreeMap<String, String>,
}

/// Saves after `step` finished steps and removes all but the newest few checkpoints. Returns the
/// checkpoint's folder.
pub fn save(run: &Path, config: &Config, trainer: &Trainer, step: usize) -> Result<PathBuf, Error> {
    let folder = run.join("checkpoints");
    let (path, temporary) = (folder.join(format!("step-{step:06}")), folder.join(format!(".step-{step:06}.tmp")));
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(Error::io(&temporary))?;
    }
    fs::create_dir_all(&temporary).map_err(Error::io(&temporary))?;
    let mut files = BTreeMap::new();
    let shapes = shapes(config)?;
    for (name, tensors) in [
        ("student.safetensors", trainer.student_params.tensors()),
        ("teacher.safetensors", trainer.teacher_params.tensors()),
        ("optimizer.safetensors", trainer.optimizer.moments()),
        ("centers.safetensors", centers(trainer)),
    ] {
        let file = temporary.join(name);
        write_safetensors(&file, &tensors, &shapes)?;
        files.insert(name.to_string(), digest(&file)?);
    }
    let state = State { format: FORMAT, step, optimizer_steps: trainer.optimizer.steps(), files };
    let text = serde_json::to_string_pretty(&state)
        .map_err(|e| Error::File { path: temporary.join("state.json"), reason: e.to_string() })?;
    fs::write(temporary.join("state.json"), text).map_err(Error::io(temporary.join("state.json")))?;
    if path.exists() {
        fs::remove_dir_all(&path).map_err(Error::io(&path))?;
    }
    fs::rename(&temporary, &path).map_err(Error::io(&path))?;
    for (_, old) in list(run)?.into_iter().rev().skip(config.checkpoint.keep) {
        fs::remove_dir_all(&old).map_err(Error::io(&old))?;
    }
    Ok(path)
}

/// Restores the newest whole checkpoint into `trainer` and returns its number of finished steps, or
/// `None` if there is none at all. `warn` is told of each unusable one that is passed over; if all
/// are unusable that is an error, never a silent start from scratch.
pub fn restore_newest(run: &Path, trainer: &mut Trainer, mut warn: impl FnMut(String)) -> Result<Option<usize>, Error> {
    let found = list(run)?;
    for (_, path) in found.iter().rev() {
        match verify(path).and_then(|state| restore(path, state, trainer)) {
            Ok(step) => return Ok(Some(step)),
            Err(e) => warn(format!("checkpoint {} cannot be used and is passed over: {e}", path.display())),
        }
    }
    match found.is_empty() {
        true => Ok(None),
        false => Err(Error::File {
            path: run.join("checkpoints"),
            reason: "no checkpoint can be used; start over with --overwrite or another --name".into(),
        }),
    }
}

/// The whole teacher, heads included, in the newest checkpoint of a run that is as it was saved.
pub fn newest_teacher(run: &Path) -> Result<PathBuf, Error> {
    let found = list(run)?.into_iter().rev().find(|(_, path)| verify(path).is_ok());
    let reason = "has no whole checkpoint (yet)".into();
    found.map(|(_, path)| path.join("teacher.safetensors")).ok_or(Error::File { path: run.into(), reason })
}

/// Checkpoints by step, oldest first.
fn list(run: &Path) -> Result<Vec<(usize, PathBuf)>, Error> {
    let folder = run.join("checkpoints");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Error::io(&folder))? {
        let path = entry.map_err(Error::io(&folder))?.path();
        let step = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("step-")?.parse().ok());
        found.extend(step.map(|step| (step, path)));
    }
    found.sort();
    Ok(found)
}

fn verify(path: &Path) -> Result<State, Error> {
    let file = path.join("state.json");
    let text = fs::read_to_string(&file).map_err(Error::io(&file))?;
    let state: State =
        serde_json::from_str(&text).map_err(|e| Error::File { path: file.clone(), reason: e.to_string() })?;
    if state.format != FORMAT {
        let reason = format!("is of format {}, this program reads {FORMAT}", state.format);
        return Err(Error::File { path: file, reason });
    }
    for (name, expected) in &state.files {
        let file = path.join(name);
        if digest(&file)? != *expected {
            return Err(Error::File { path: file, reason: "does not match its digest".into() });
        }
    }
    Ok(state)
}

fn restore(path: &Path, state: State, trainer: &mut Trainer) -> Result<usize, Error> {
    let load = |name: &str| read(&path.join(name), &Device::Cpu);
    let (student, teacher) = (load("student.safetensors")?, load("teacher.safetensors")?);
    let (moments, centers) = (load("optimizer.safetensors")?, load("centers.safetensors")?);
    assign(&trainer.student_params, &student)?;
    assign(&trainer.teacher_params, &teacher)?;
    trainer.optimizer.restore(&moments.tensors, &state.optimizer_steps)?;
    let center = |name: &str| {
        centers
            .tensors
            .get(name)
            .ok_or_else(|| Error::File { path: path.into(), reason: format!("has no {name} centre") })
    };
    trainer.image.center_mut().set(center("class")?)?;
    trainer.patch.center_mut().set(center("patch")?)?;
    Ok(state.step)
}

/// Overwrites `params` with exactly the tensors of a file; missing, extra and mis-shaped names are
/// listed in the error.
fn assign(params: &Params, weights: &Weights) -> Result<(), Error> {
    check_strict(&params.shapes(), &weights.tensors, &weights.path)?;
    Ok(params.assign(weights.tensors.iter().map(|(name, t)| (name.as_str(), t)))?)
}

fn centers(trainer: &Trainer) -> Vec<(String, Tensor)> {
    vec![
        ("class".to_string(), trainer.image.center().value().clone()),
        ("patch".to_string(), trainer.patch.center().value().clone()),
    ]
}

fn digest(path: &Path) -> Result<String, Error> {
    let mut hasher = blake3::Hasher::new();
    let mut file = fs::File::open(path).map_err(Error::io(path))?;
    std::io::copy(&mut file, &mut hasher).map_err(Error::io(path))?;
    Ok(hasher.finalize().to_hex().to_string())
}
