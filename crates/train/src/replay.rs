//! A step that went wrong, kept so that it can be repeated.

use crate::diagnose::diagnose;
use crate::export::metadata;
use crate::{Config, Error, Hyper, Memory, Scaler, Settings, StepReport, Trainer};
use candle_core::{DType, Device, Tensor};
use selfpatch_weights::{read, write_safetensors};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a replay file holds beside tensors.
#[derive(Serialize, Deserialize)]
struct Moment {
    step: usize,
    hyper: Hyper,
    names: Vec<String>,
    optimizer_steps: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scaler: Option<Scaler>,
}

/// Number of files kept in `replay/`: each holds all state.
const KEPT: usize = 3;

/// Writes `replay/step-NNNNNN.safetensors`: all state before step `step`, its crops and its settings.
/// `names`: names of the images.
pub(crate) fn write(
    config: &Config,
    trainer: &Trainer,
    (step, crops, names): (usize, &[Tensor], &[String]),
    hyper: &Hyper,
) -> Result<PathBuf, Error> {
    let folder = config.output_dir.join("replay");
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    // A run that skips such steps may meet many; the last few tell enough.
    let mut earlier: Vec<PathBuf> =
        fs::read_dir(&folder).map_err(Error::io(&folder))?.flatten().map(|e| e.path()).collect();
    earlier.sort();
    for old in earlier.iter().rev().skip(KEPT - 1) {
        fs::remove_file(old).map_err(Error::io(old))?;
    }
    let path = folder.join(format!("step-{step:06}.safetensors"));
    let state = trainer.state(metadata(config)?)?;
    let under = |prefix: &str, tensors: &[(String, Tensor)]| {
        tensors.iter().map(|(name, t)| (format!("{prefix}.{name}"), t.clone())).collect::<Vec<_>>()
    };
    let crops: Vec<_> = crops.iter().enumerate().map(|(i, t)| (i.to_string(), t.clone())).collect();
    let tensors = [
        under("student", state.tensors("student")),
        under("teacher", state.tensors("teacher")),
        under("optimizer", state.tensors("optimizer")),
        under("center", state.tensors("centers")),
        under("crops", &crops),
    ];
    let moment = Moment {
        step,
        hyper: *hyper,
        names: names.to_vec(),
        optimizer_steps: trainer.optimizer.steps()?,
        scaler: trainer.scaler,
    };
    let mut metadata = state.metadata;
    metadata.push(("config".into(), config.to_toml()?));
    let text = serde_json::to_string(&moment).map_err(|e| Error::File { path: path.clone(), reason: e.to_string() })?;
    metadata.push(("moment".into(), text));
    write_safetensors(&path, &tensors.concat(), &metadata)?;
    Ok(path)
}

/// How a repeated step went.
pub struct Replay {
    /// The step, counted from 0.
    pub step: usize,
    /// Names of the images of the step.
    pub names: Vec<String>,
    /// Numbers of the step; or what was non-finite, and where it was seen first.
    pub outcome: Result<StepReport, (Error, String)>,
}

/// Repeats the step of a replay file. Nothing is written.
pub fn replay(path: &Path, device: &Device) -> Result<Replay, Error> {
    let file = read(path, device)?;
    let fail = |reason: String| Error::File { path: path.into(), reason };
    let text = |key: &str| {
        file.metadata.get(key).ok_or_else(|| fail(format!("is no replay file: its metadata have no {key:?}")))
    };
    let config = Config::parse(path, text("config")?)?;
    config.check()?;
    if device.is_cpu() {
        Memory::admit(&config, 0)?;
    }
    let moment: Moment = serde_json::from_str(text("moment")?).map_err(|e| fail(format!("is no replay file: {e}")))?;
    let mut trainer = Trainer::new(Settings::of(&config)?, DType::F32, device)?;
    let part = |prefix: &str| {
        let tensors = file
            .tensors
            .iter()
            .filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.strip_prefix('.')?.to_string(), t.clone())));
        Ok::<_, Error>(tensors.collect::<BTreeMap<_, _>>())
    };
    for (prefix, params) in [("student", &trainer.student_params), ("teacher", &trainer.teacher_params)] {
        params.load(&part(prefix)?, path)?;
    }
    trainer.optimizer.restore(&part("optimizer")?, &moment.optimizer_steps)?;
    trainer.scaler = moment.scaler;
    trainer.restore_objectives(&part("center")?, path)?;
    let crops: Vec<Tensor> = part("crops")?.into_values().collect();
    if crops.len() != config.crop_sizes().len() {
        return Err(fail("does not hold the crops of its configuration".into()));
    }
    let outcome = match trainer.step(&crops, moment.names.len(), moment.step, &moment.hyper) {
        Ok(report) => Ok(report),
        Err(e) if e.is_non_finite() => {
            let place = diagnose(&trainer, &crops, &moment.names, &moment.hyper, &e)?;
            Err((e, place))
        }
        Err(e) => return Err(e),
    };
    Ok(Replay { step: moment.step, names: moment.names, outcome })
}
