//! Finding a checkpoint that is whole, and going on from it.

use super::header::{FORMAT, Header, digest};
use super::list;
use crate::{Error, Settings};
use candle_core::{Device, Tensor};
use selfpatch_weights::{Weights, read};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// A checkpoint whose files are as they were written.
#[derive(Debug)]
pub struct Found<S> {
    /// Folder of the checkpoint.
    pub path: PathBuf,
    /// Finished steps.
    pub step: usize,
    /// Images of the data, which tell where in an epoch the step is.
    pub images: usize,
    /// Settings that the checkpoint was made with.
    pub settings: S,
    values: Map<String, Value>,
}

impl<S> Found<S> {
    /// The tensors of a file, such as `student`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tensors(&self, file: &str, device: &Device) -> Result<Weights, Error> {
        Ok(read(&self.path.join(format!("{file}.safetensors")), device)?)
    }

    /// One tensor of a file.
    ///
    /// # Errors
    /// When the file cannot be read or has no tensor of that name.
    pub fn tensor(&self, file: &str, name: &str, device: &Device) -> Result<Tensor, Error> {
        let mut file = self.tensors(file, device)?;
        let none = || Error::File { path: file.path.clone(), reason: format!("has no tensor {name}") };
        file.tensors.remove(name).ok_or_else(none)
    }

    /// A value of `state.json`; `None` where there is none.
    ///
    /// # Errors
    /// When the value is of another type.
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let wrong = |e| Error::File { path: self.path.join("state.json"), reason: format!("{name}: {e}") };
        self.values.get(name).map(|value| serde_json::from_value(value.clone())).transpose().map_err(wrong)
    }
}

/// The newest whole checkpoint of a run, or `None` if there is none at all. `warn` is told of each damaged
/// one that is passed over; if all are damaged that is an error, never a silent start from scratch.
pub fn newest<S: Settings>(run: &Path, mut warn: impl FnMut(String)) -> Result<Option<Found<S>>, Error> {
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
pub fn usable<S: Settings>(path: &Path) -> Result<Found<S>, Error> {
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
    let header: Header = serde_json::from_str(&text).map_err(|e| fail(e.to_string()))?;
    for (name, expected) in &header.files {
        let file = path.join(name);
        if digest(&file)? != *expected {
            return Err(Error::File { path: file, reason: "does not match its digest".into() });
        }
    }
    let file = path.join("config.toml");
    let text = fs::read_to_string(&file).map_err(Error::io(&file))?;
    let Header { step, images, values, .. } = header;
    Ok(Found { path: path.into(), step, images, settings: S::parse(&file, &text)?, values })
}
