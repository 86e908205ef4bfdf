//! Which run a command means, and with which settings it begins or goes on.

use crate::layers::{Layers, renamed};
use crate::{Config, Error, Preset, Setting, did_you_mean};
use selfpatch_datasets::same_files;
use selfpatch_run::place::{place, run_name};
use selfpatch_run::{Resume, SavedRun, fields};
use std::fs;
use std::path::{Path, PathBuf};

/// Names that runs on one's own data had in older versions, those of their presets.
const OLDER: [&str; 3] = ["folder", "multichannel", "paper"];

/// A run that is to begin or to go on.
pub struct Chosen {
    /// Settings of the run, `name` and `output_dir` among them.
    pub config: Config,
    /// Which checkpoint the run goes on from.
    pub resume: Resume,
    /// The recipe that fills what nobody said; `None` where saved settings do.
    pub preset: Option<Preset>,
    /// The run whose saved settings say where the data is, unless something else does.
    pub data_of: Option<PathBuf>,
    /// What the user should know about the run.
    pub notes: Vec<String>,
}

/// Finds the run that `layers` and `--resume` mean, and lays what they say over its saved settings if it has any, over
/// a preset otherwise. `resume`: `auto`, `never`, or a path.
///
/// # Errors
/// When there is no such run, when it is one on other data, and for fields that there are none of.
pub fn chosen(layers: &Layers, resume: &Path, overwrite: bool) -> Result<Chosen, Error> {
    let other = match resume.to_str() {
        Some("auto" | "never") => None,
        _ => Some(SavedRun::named(resume)?),
    };
    let named = layers.text("output_dir").map(PathBuf::from);
    let named = named.or_else(|| layers.text("name").map(|name| Path::new("runs").join(name)));
    let source = layers.text("data.path");
    let default_name = run_name(source.unwrap_or("procedural"));
    let has_own_name = named.is_some() || other.is_some();
    let folder = named
        .or_else(|| other.as_ref().map(|other| other.folder.clone()))
        .unwrap_or_else(|| Path::new("runs").join(&default_name));
    let mut notes = layers.notes.clone();
    let saved = SavedRun::<Config>::of(&folder)?;
    match &saved {
        // The name is the data's: it must not lead to a run on other data.
        Some(saved) if !has_own_name => {
            let path = &saved.settings.data.path;
            if !is_same(path, source.unwrap_or("procedural")) {
                let reason = format!(
                    "holds a run on other data ({path}); give this one a name of its own with --name, or continue that \
                     one with --name {default_name} alone"
                );
                return Err(Error::File { path: folder, reason });
            }
        }
        None if !has_own_name => {
            if let (Some(source), Some(older)) = (source, source.and_then(older)) {
                let reason = format!(
                    "holds a run on {source}, named after its preset as older versions did; --name {older} continues \
                     it, --name {default_name} begins another"
                );
                return Err(Error::File { path: Path::new("runs").join(older), reason });
            }
        }
        None if other.is_none() && source.is_none() => notes.push(unknown(&folder)),
        _ => {}
    }
    if let (true, Some(saved), None) = (overwrite, &saved, source)
        && saved.settings.data.path != "procedural"
    {
        let path = &saved.settings.data.path;
        let reason = format!(
            "{} holds a run on {path}; say which data the new one is to be trained on: --data {path}, or --data \
             procedural",
            folder.display()
        );
        return Err(Error::Config { field: "--overwrite".into(), reason });
    }
    let resume_from = match (&other, resume.to_str()) {
        (None, Some("never")) => Resume::Never,
        (None, _) => Resume::Auto,
        // The run itself, wherever it stands, even before its first checkpoint.
        (Some(_), _) if is_same_folder(resume, &folder) => Resume::Auto,
        (Some(_), _) => Resume::From(resume.into()),
    };
    let written = if overwrite || saved.is_none() { resume } else { &folder }.join("config.toml");
    let goes_on = if overwrite { other } else { saved.or(other) };
    let is_base = goes_on.is_some() && layers.preset.is_none();
    let preset = (!is_base).then(|| layers.preset());
    let base = match (&goes_on, preset) {
        (Some(saved), None) => saved.settings.clone(),
        (_, preset) => preset.unwrap_or_else(|| layers.preset()).config(),
    };
    let own_name = goes_on.as_ref().map(|saved| saved.settings.name.clone());
    let base = Config { name: own_name.unwrap_or(default_name), ..base };
    let mut config = layers.over(base.clone(), &[])?;
    if let Some(saved) = &goes_on {
        notes.extend(renamed(&written, &fs::read_to_string(&written).unwrap_or_default()));
        let overridden = remembered(&config, layers, saved)?;
        if !overridden.is_empty() {
            notes.extend(overridden.iter().map(|(place, value)| {
                format!("{place} = {value}, as it was overridden in {}", saved.folder.display())
            }));
            config = layers.over(base, &overridden)?;
        }
        if is_base {
            let from = saved.folder.display();
            notes.push(format!("goes on with the settings of {from}, changed by what this command says alone"));
        }
    }
    let data_of = goes_on.filter(|_| is_base && source.is_none()).map(|saved| saved.folder);
    config.output_dir = folder;
    Ok(Chosen { config, resume: resume_from, preset, data_of, notes })
}

/// What to say of a name that no run has, where no data was given: it may be misspelt.
fn unknown(folder: &Path) -> String {
    let names = |runs: &Path| -> Vec<String> {
        let entries = fs::read_dir(runs).into_iter().flatten().flatten();
        let runs = entries.filter(|entry| entry.path().join("config.toml").exists());
        runs.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let known = folder.parent().map(names).unwrap_or_default();
    let hint = did_you_mean(&name, known.iter().map(String::as_str));
    let hint = if hint.contains("did you mean") { hint } else { String::new() };
    format!("there is no run {} yet; it begins on synthetic images (--data names others){hint}", folder.display())
}

/// Fields to which a preset or file still gives the value before it was overridden on the way, with the value since.
fn remembered(config: &Config, layers: &Layers, saved: &SavedRun<Config>) -> Result<Vec<Setting>, Error> {
    if layers.preset.is_none() && !layers.has_file() {
        return Ok(Vec::new());
    }
    let fields = fields::of(config)?;
    let value = |text: &str| format!("v = {text}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let overrides = saved.history.overrides.iter();
    let still = overrides.filter(|(place, known)| fields.get(*place) == Some(&known.from));
    let unsaid = still.filter(|(place, _)| layers.setting(place).is_none() && !place.contains('['));
    Ok(unsaid.filter_map(|(place, known)| Some((place.clone(), value(&known.to)?))).collect())
}

fn is_same(a: &str, b: &str) -> bool {
    place(a, Path::new("")) == place(b, Path::new("")) || same_files(a, b)
}

fn is_same_folder(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// The name of a run of an older version on the same data.
fn older(source: &str) -> Option<&'static str> {
    let is_on = |name: &&str| {
        let saved = SavedRun::<Config>::of(&Path::new("runs").join(name)).ok().flatten();
        saved.is_some_and(|saved| is_same(&saved.settings.data.path, source))
    };
    OLDER.into_iter().find(is_on)
}
