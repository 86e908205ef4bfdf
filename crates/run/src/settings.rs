//! What the machinery of a run needs to know of a task's settings.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The settings of a task: one TOML file, every field of it. A run keeps them as `config.toml`.
///
/// Two fields have the same place in all tasks: `data.path`, the images that are trained on, and `optim.epochs`.
pub trait Settings: Clone + Send + 'static {
    /// Fields, or tables of them, that may differ from session to session: they change neither the result nor the
    /// meaning of what is saved.
    const FREE: &'static [&'static str];

    /// Complete settings, as saved with a run by this version or an older one. `path` is for messages.
    ///
    /// # Errors
    /// When `text` is not the settings of this task.
    fn parse(path: &Path, text: &str) -> Result<Self, Error>;

    /// The text that [`Settings::parse`] reads.
    ///
    /// # Errors
    /// When a value has no form in TOML.
    fn to_toml(&self) -> Result<String, Error>;

    /// All fields, as they are compared between sessions.
    ///
    /// # Errors
    /// When a value has no form in TOML.
    fn to_table(&self) -> Result<toml::Table, Error>;

    /// The settings that all tasks have.
    fn common(&self) -> Common<'_>;

    /// Whether no checkpoint made with the value `from` of the field at `place` can be continued with `to`, both as
    /// TOML.
    fn decides_shapes(place: &str, from: &str, to: &str) -> bool;

    /// The field that decides which value stands at `place`: if it differs, the difference at `place` needs no mention.
    fn decided_by(place: &str) -> Option<&'static str>;

    /// The present place of a field that older versions had at `place`, as it may stand in `resume.json`.
    fn place_now(place: &str) -> String {
        place.into()
    }

    /// Settings read from the run in `folder`, for a session in another working directory: relative paths began at
    /// `base`, and how far the last session was to go is forgotten.
    fn moved(self, folder: &Path, base: &Path) -> Self;
}

/// The settings that the machinery of a run reads.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    /// Folder of the run.
    pub folder: &'a Path,
    /// Source of the images that are trained on (`data.path`).
    pub data: &'a str,
    /// Passes over the data.
    pub epochs: usize,
    /// Steps after which the run ends before its epochs do.
    pub max_steps: Option<usize>,
    /// When to save.
    pub checkpoint: &'a Checkpointing,
    /// Alarms, and what happens when a number is non-finite.
    pub health: &'a HealthWatch,
}

/// When to save and how much to keep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpointing {
    /// Save after every this many epochs, and always at the end.
    pub every_epochs: usize,
    /// Save also after this many minutes; 0 for epochs alone. It changes no result.
    #[serde(default = "ten_minutes")]
    pub every_minutes: f64,
    /// Newest checkpoints kept.
    pub keep: usize,
    /// Checkpoints at the end of every this many epochs are kept for good; 0 for none.
    #[serde(default)]
    pub milestone_epochs: usize,
}

impl Default for Checkpointing {
    /// Saves every epoch and every ten minutes, and keeps the newest three.
    fn default() -> Self {
        Self { every_epochs: 1, every_minutes: ten_minutes(), keep: 3, milestone_epochs: 0 }
    }
}

fn ten_minutes() -> f64 {
    10.
}

/// How a run is watched: alarms, and what follows a non-finite number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthWatch {
    /// Say in plain words when the numbers look like collapse, divergence or standstill.
    pub alarms: bool,
    /// What follows a non-finite loss or gradient, which never reaches the weights.
    pub not_finite: NonFinite,
    /// Steps in a row that may be skipped for non-finite numbers before the run stops all the same.
    pub most_skipped: usize,
}

impl Default for HealthWatch {
    fn default() -> Self {
        Self { alarms: true, not_finite: NonFinite::Stop, most_skipped: 10 }
    }
}

/// What follows a non-finite number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonFinite {
    /// Save and stop.
    Stop,
    /// Leave the step out and go on.
    Skip,
}
