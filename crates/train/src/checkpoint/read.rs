//! Finding a checkpoint that is whole, and going on from it.

use super::{FORMAT, State, digest, list};
use crate::{Config, Error, Trainer};
use selfpatch_nn::Params;
use selfpatch_nn::weights::{Weights, check_strict, read};
use std::fs;
use std::path::{Path, PathBuf};

/// A checkpoint whose files are as they were written.
pub struct Found {
    /// Its folder.
    pub path: PathBuf,
    /// What `state.json` says.
    pub state: State,
    /// What it was made with.
    pub config: Config,
}

/// The newest whole checkpoint of a run, or `None` if there is none at all. `warn` is told of each damaged
/// one that is passed over; if all are damaged that is an error, never a silent start from scratch.
pub fn newest(run: &Path, mut warn: impl FnMut(String)) -> Result<Option<Found>, Error> {
    let found = list(run)?;
    for (_, path) in found.iter().rev() {
        match usable(path) {
            Ok(found) => return Ok(Some(found)),
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

/// The checkpoint in the folder `path`, every byte of it compared with its digest.
pub fn usable(path: &Path) -> Result<Found, Error> {
    let file = path.join("state.json");
    let text = fs::read_to_string(&file).map_err(Error::io(&file))?;
    let fail = |reason: String| Error::File { path: file.clone(), reason };
    let stated = path.join("state.b3");
    // Before the digest: a newer format may keep it elsewhere.
    if let Some(format) = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|v| v["format"].as_u64())
        && format != u64::from(FORMAT)
    {
        return Err(fail(format!("is of format {format}, this program reads {FORMAT}")));
    }
    let digest_of_state = fs::read_to_string(&stated).map_err(Error::io(&stated))?;
    if blake3::hash(text.as_bytes()).to_hex().as_str() != digest_of_state {
        return Err(fail("does not match its digest".into()));
    }
    let state: State = serde_json::from_str(&text).map_err(|e| fail(e.to_string()))?;
    for (name, expected) in &state.files {
        let file = path.join(name);
        if digest(&file)? != *expected {
            return Err(Error::File { path: file, reason: "does not match its digest".into() });
        }
    }
    let file = path.join("config.toml");
    let text = fs::read_to_string(&file).map_err(Error::io(&file))?;
    Ok(Found { path: path.into(), state, config: Config::parse(&file, &text)? })
}

/// Puts a checkpoint's state into `trainer`; returns the number of finished steps.
pub fn restore(found: &Found, trainer: &mut Trainer) -> Result<usize, Error> {
    let device = trainer.device().clone();
    let load = |name: &str| read(&found.path.join(name), &device);
    let (student, teacher) = (load("student.safetensors")?, load("teacher.safetensors")?);
    let (moments, centers) = (load("optimizer.safetensors")?, load("centers.safetensors")?);
    assign(&trainer.student_params, &student)?;
    assign(&trainer.teacher_params, &teacher)?;
    trainer.optimizer.restore(&moments.tensors, &found.state.optimizer_steps)?;
    let center = |name: &str| {
        let none = || Error::File { path: centers.path.clone(), reason: format!("has no {name} centre") };
        centers.tensors.get(name).ok_or_else(none)
    };
    trainer.image.center_mut().set(center("class")?)?;
    trainer.patch.center_mut().set(center("patch")?)?;
    // A run that goes on in fp16 after another precision begins with the usual scale.
    trainer.scaler = trainer.scaler.map(|usual| found.state.scaler.unwrap_or(usual));
    Ok(found.state.step)
}

/// Overwrites `params` with exactly the tensors of a file; missing, extra and mis-shaped names are
/// listed in the error.
pub(crate) fn assign(params: &Params, weights: &Weights) -> Result<(), Error> {
    check_strict(&params.shapes(), &weights.tensors, &weights.path)?;
    Ok(params.assign(weights.tensors.iter().map(|(name, t)| (name.as_str(), t)))?)
}
