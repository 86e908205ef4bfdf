//! How a session of a run begins and ends, and what happens in between.

use crate::{Alarm, Estimate, Record};
use selfpatch_datasets::Fault;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Which checkpoint a session goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// The newest whole checkpoint of the run, if there is any.
    #[default]
    Auto,
    /// No checkpoint: a run that has one is left alone.
    Never,
    /// The checkpoint at this path, or the newest of the run there; the run that goes on may be another.
    From(PathBuf),
}

/// How a session of a run begins, and what ends it.
pub struct Session<'a> {
    /// Whether an earlier run in the same folder is discarded.
    pub overwrite: bool,
    /// Which checkpoint the session goes on from.
    pub resume: Resume,
    /// Fields that may differ from those of the checkpoint, such as `optim.lr`.
    pub overrides: &'a [String],
    /// How the user wrote what was asked for, for messages; may be empty.
    pub asked: &'a [Asked],
    /// Set by whoever wants the run to save and end after the step at hand.
    pub stop: &'a AtomicBool,
}

/// A setting as a user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Place of the field, such as `optim.lr`.
    pub field: String,
    /// The flag, such as `--lr`.
    pub flag: String,
    /// Value as it was written, such as `1e-4`.
    pub value: String,
}

/// What happens during a session, for whoever shows it.
pub enum Event<'a> {
    /// The session is about to take its first step.
    Start {
        /// Images of one epoch, without those that do not fill a batch.
        images: usize,
        /// What the task says of itself, line by line.
        about: Vec<String>,
        /// Steps already finished by an earlier session.
        first_step: usize,
        /// Steps at which the run ends.
        steps: usize,
        /// Steps of one epoch.
        steps_per_epoch: usize,
    },
    /// How long the steps take that are left, told when the first batch is there, before its step.
    Estimate(&'a Estimate),
    /// A step is finished.
    Step(&'a Record),
    /// A checkpoint is saved.
    Saved(&'a Path),
    /// Something is wrong with a sample; the first time that it is met.
    Fault(&'a Fault),
    /// The run looks ill.
    Alarm(&'a Alarm),
    /// Something that takes long before the first step.
    Notice(&'a str),
    /// Something the user should know that does not stop the run.
    Warning(String),
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All steps are done that this session was asked for.
    Complete,
    /// All steps were done before this session.
    WasComplete,
    /// The session was told to stop, and saved after this many steps.
    Stopped(usize),
}

/// The outcome of a session.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The run's folder.
    pub folder: PathBuf,
    /// How the session ended.
    pub end: End,
    /// Where the run ended before its epochs did, by a stop or by `optim.max_steps`; `None` if it did not.
    pub cut: Option<Cut>,
}

/// A run that ended before its epochs did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Steps done.
    pub step: usize,
    /// Steps of all epochs of the run.
    pub of: usize,
}
