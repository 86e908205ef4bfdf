//! The settings of a linear probe, which its run keeps as `config.toml`.

use selfpatch_run::{Checkpointing, Common, Error, HealthWatch, Settings, place};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::Table;

/// What the settings of a linear probe call their task.
pub const TASK: &str = "linear-probe";

/// A whole linear probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Kind of the run: [`TASK`].
    pub task: String,
    /// Name of the run.
    pub name: String,
    /// Folder of the run.
    pub output_dir: PathBuf,
    /// Seed of the initial classifiers, of the order of images and of views.
    pub seed: u64,
    /// The backbone, which stays as it is.
    pub model: Model,
    /// The images.
    pub data: Data,
    /// The classifiers.
    pub optim: Optim,
    /// Saving.
    #[serde(default)]
    pub checkpoint: Checkpointing,
    /// Alarms, and what happens when a number is non-finite.
    #[serde(default)]
    pub health: HealthWatch,
}

/// The backbone whose features are judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Weight file of the backbone.
    pub weights: String,
    /// BLAKE3 digest of the weight file, so that other weights of the same name are noticed.
    pub digest: String,
    /// What is taken for an image, in words.
    pub feature: String,
    /// Side of the square that the model sees, in pixels.
    pub image_size: usize,
}

/// The images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Labelled images that the classifiers are trained on.
    pub path: String,
    /// Labelled images that the classifiers are tested on; empty for every fifth of those of `path`.
    pub val: String,
    /// Greatest number of images of each source, evenly spread; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<usize>,
    /// Train on random views, a new one each time (DINO's protocol), instead of features of the image's middle that are
    /// made once.
    pub augment: bool,
    /// Threads that load; 0 for one per core.
    pub workers: usize,
    /// Greatest part of the images that may be broken.
    pub max_bad: f64,
}

/// The classifiers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optim {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per step.
    pub batch_size: usize,
    /// Learning rates for 256 images per step, each with classifiers of its own; scaled with `batch_size / 256`.
    pub rates: Vec<f64>,
    /// Stop after this many steps, the schedules unchanged; absent: all epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
}

impl Config {
    /// Refuses values with which nothing can be learnt.
    ///
    /// # Errors
    /// The field, and what it must be.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |field: &str, reason: &str| Err(Error::Config { field: field.into(), reason: reason.into() });
        let o = &self.optim;
        if self.task != TASK {
            return refuse("task", "is not that of a linear probe");
        }
        if o.epochs == 0 {
            return refuse("optim.epochs", "must be at least 1");
        }
        if o.batch_size == 0 {
            return refuse("optim.batch_size", "must be at least 1");
        }
        if o.rates.is_empty() || o.rates.iter().any(|rate| !rate.is_finite() || *rate <= 0.) {
            return refuse("optim.rates", "must be one number above 0 or several");
        }
        let mut sorted = o.rates.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.dedup();
        if sorted.len() < o.rates.len() {
            return refuse("optim.rates", "holds a rate twice");
        }
        Ok(())
    }
}

fn unwritten(e: &dyn std::fmt::Display) -> Error {
    Error::Config { field: "configuration".into(), reason: e.to_string() }
}

impl Settings for Config {
    const FREE: &'static [&'static str] =
        &["name", "output_dir", "data.workers", "data.max_bad", "checkpoint", "health"];

    fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|e: toml::de::Error| Error::File {
            path: path.into(),
            reason: format!("is not the configuration of a linear probe: {}", e.to_string().trim_end()),
        })
    }

    fn to_toml(&self) -> Result<String, Error> {
        toml::to_string_pretty(self).map_err(|e| unwritten(&e))
    }

    fn to_table(&self) -> Result<Table, Error> {
        Table::try_from(self).map_err(|e| unwritten(&e))
    }

    fn common(&self) -> Common<'_> {
        Common {
            folder: &self.output_dir,
            data: &self.data.path,
            epochs: self.optim.epochs,
            max_steps: self.optim.max_steps,
            checkpoint: &self.checkpoint,
            health: &self.health,
        }
    }

    fn decides_shapes(place: &str, _from: &str, _to: &str) -> bool {
        ["optim.rates", "model.feature"].contains(&place)
    }

    fn decided_by(_place: &str) -> Option<&'static str> {
        None
    }

    fn moved(mut self, folder: &Path, base: &Path) -> Self {
        for source in [&mut self.data.path, &mut self.data.val, &mut self.model.weights] {
            *source = place::from_base(source, base);
        }
        self.output_dir = folder.into();
        self.optim.max_steps = None;
        self
    }
}
