//! What continuing a run needs to know beside its settings and checkpoints.

use crate::{Error, Settings, replace_file};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the history's file in the folder of a run.
pub(crate) const FILE: &str = "resume.json";

/// The file `resume.json` of a run; empty for runs of older versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Working directory of the newest session, where relative paths of `config.toml` begin; empty if unknown.
    pub working_dir: PathBuf,
    /// The checkpoint of another run that this one goes on from.
    pub branched_from: Option<PathBuf>,
    /// Fields that were changed on the way (`--override`), by their places.
    pub overrides: BTreeMap<String, Overridden>,
}

/// A field that was changed on the way, both values as TOML.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overridden {
    /// The value before the change.
    pub from: String,
    /// The value since the change.
    pub to: String,
}

impl History {
    /// The history of the run in `folder`, overridden fields at their present places. A file that cannot be understood
    /// is an error.
    pub(crate) fn read<S: Settings>(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Error::io(&path)(e)),
            Ok(bytes) => {
                let history: Self = serde_json::from_slice(&bytes).map_err(|e| Error::File {
                    path: path.clone(),
                    reason: format!("cannot be read ({e}); remove it, and the run goes on as one of an older version"),
                })?;
                let overrides = history.overrides.into_iter().map(|(place, known)| (S::place_now(&place), known));
                Ok(Self { overrides: overrides.collect(), ..history })
            }
        }
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(FILE);
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::File { path: path.clone(), reason: e.to_string() })?;
        replace_file(&path, text.as_bytes()).map_err(Error::io(&path))
    }
}

/// The settings of a run as its newest session had them.
#[derive(Clone, Debug)]
pub struct SavedRun<S> {
    /// The run's folder.
    pub folder: PathBuf,
    /// Settings of the run, [`Settings::moved`] to this working directory.
    pub settings: S,
    /// History of the run.
    pub history: History,
}

impl<S: Settings> SavedRun<S> {
    /// The run in `folder`; `None` where there is no `config.toml`.
    ///
    /// # Errors
    /// When there is a `config.toml` that is not that of a run.
    pub fn of(folder: &Path) -> Result<Option<Self>, Error> {
        let file = folder.join("config.toml");
        let text = match fs::read_to_string(&file) {
            Err(e) if [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory].contains(&e.kind()) => {
                return Ok(None);
            }
            other => other.map_err(Error::io(&file))?,
        };
        let settings = S::parse(&file, &text)?;
        let history = History::read::<S>(folder)?;
        Ok(Some(Self::at(folder, settings, history)))
    }

    /// The run that `--resume` names: a run, or a checkpoint, whose settings are its own.
    ///
    /// # Errors
    /// When there is neither a run nor a checkpoint.
    pub fn named(path: &Path) -> Result<Self, Error> {
        if !path.join("state.json").exists() {
            let none =
                || Error::File { path: path.into(), reason: "is neither a run nor a checkpoint (--resume)".into() };
            return Self::of(path)?.ok_or_else(none);
        }
        let file = path.join("config.toml");
        let settings = S::parse(&file, &fs::read_to_string(&file).map_err(Error::io(&file))?)?;
        match run_of(path) {
            Some(run) if run.join("config.toml").exists() => {
                let history = History::read::<S>(&run)?;
                Ok(Self::at(&run, settings, history))
            }
            // A checkpoint that was copied elsewhere belongs to the run that its settings name.
            _ => {
                let folder = settings.common().folder.to_path_buf();
                Ok(Self::at(&folder, settings, History::default()))
            }
        }
    }

    fn at(folder: &Path, settings: S, history: History) -> Self {
        let base = working_dir(folder, settings.common().folder, &history);
        Self { folder: folder.into(), settings: settings.moved(folder, &base), history }
    }
}

/// The run whose folder a checkpoint lies in, if it lies in one.
pub(crate) fn run_of(checkpoint: &Path) -> Option<PathBuf> {
    let whole = fs::canonicalize(checkpoint).ok()?;
    let checkpoints = whole.parent().filter(|folder| folder.file_name().is_some_and(|n| n == "checkpoints"))?;
    // As it was written, where that is possible: messages name what the user named.
    let written = checkpoint.parent().and_then(Path::parent).filter(|run| !run.as_os_str().is_empty());
    match written {
        Some(run) if fs::canonicalize(run).ok().as_deref() == checkpoints.parent() => Some(run.into()),
        _ => checkpoints.parent().map(Path::to_path_buf),
    }
}

/// Working directory where relative paths in the settings of the run in `folder` begin; the settings call that folder
/// `written`. Empty if unknown.
pub(crate) fn working_dir(folder: &Path, written: &Path, history: &History) -> PathBuf {
    if !history.working_dir.as_os_str().is_empty() {
        return history.working_dir.clone();
    }
    // An older version: `runs/NAME` began there.
    let Ok(mut base) = fs::canonicalize(folder) else { return PathBuf::new() };
    if written.is_absolute() {
        return PathBuf::new();
    }
    for part in written.components().rev() {
        if !matches!(part, std::path::Component::Normal(name) if base.file_name() == Some(name)) {
            return PathBuf::new();
        }
        base.pop();
    }
    base
}
