//! Which run a command means, and with which settings it begins or goes on.

use crate::recipe::Layers;
use anyhow::{Result, bail};
use selfpatch_datasets::same_files;
use selfpatch_train::{Asked, Config, Preset, Resume, Saved, Setting, did_you_mean, place, run_name};
use std::fs;
use std::path::{Path, PathBuf};
use toml::Value;

/// Names that runs on one's own data had in older versions, those of their presets.
const OLDER: [&str; 3] = ["folder", "multichannel", "paper"];

/// A run that is to begin or to go on.
pub struct Chosen {
    /// Its settings, `name` and `output_dir` among them.
    pub config: Config,
    /// Where it goes on.
    pub resume: Resume,
    /// The recipe that fills what nobody said; `None` where saved settings do.
    pub preset: Option<Preset>,
    /// The run whose saved settings say where the data is, unless something else does.
    pub data_of: Option<PathBuf>,
    /// What the user should know about it.
    pub notes: Vec<String>,
}

/// Finds the run that `layers` and `--resume` mean, and lays what they say over its saved settings if it has any, over
/// a preset otherwise. `resume`: `auto`, `never`, or a path.
pub fn chosen(layers: &Layers, resume: &Path, overwrite: bool) -> Result<Chosen> {
    let other = match resume.to_str() {
        Some("auto" | "never") => None,
        _ => Some(Saved::named(resume)?),
    };
    let named = layers.text("output_dir").map(PathBuf::from);
    let named = named.or_else(|| layers.text("name").map(|name| Path::new("runs").join(name)));
    let source = layers.text("data.path");
    let default_name = run_name(source.unwrap_or("procedural"));
    let has_own_name = named.is_some() || other.is_some();
    let folder = named
        .or_else(|| other.as_ref().map(|other| other.folder.clone()))
        .unwrap_or_else(|| Path::new("runs").join(&default_name));
    let mut notes = Vec::new();
    let saved = Saved::of(&folder)?;
    match &saved {
        // The name is the data's: it must not lead to a run on other data.
        Some(saved) if !has_own_name => {
            let path = &saved.config.data.path;
            if !is_same(path, source.unwrap_or("procedural")) {
                bail!(
                    "{}: holds a run on other data ({path}); give this one a name of its own with --name, or continue \
                     that one with --name {default_name} alone",
                    folder.display()
                );
            }
        }
        None if !has_own_name => {
            if let (Some(source), Some(older)) = (source, source.and_then(older)) {
                bail!(
                    "runs/{older}: holds a run on {source}, named after its preset as older versions did; --name \
                     {older} continues it, --name {default_name} begins another"
                );
            }
        }
        None if other.is_none() && source.is_none() => notes.push(unknown(&folder)),
        _ => {}
    }
    if let (true, Some(saved), None) = (overwrite, &saved, source)
        && saved.config.data.path != "procedural"
    {
        let path = &saved.config.data.path;
        bail!(
            "--overwrite: {} holds a run on {path}; say which data the new one is to be trained on: --data {path}, or \
             --data procedural",
            folder.display()
        );
    }
    let resume = match (&other, resume.to_str()) {
        (None, Some("never")) => Resume::Never,
        (None, _) => Resume::Auto,
        // The run itself, wherever it stands, even before its first checkpoint.
        (Some(_), _) if is_same_folder(resume, &folder) => Resume::Auto,
        (Some(_), _) => Resume::From(resume.into()),
    };
    let goes_on = if overwrite { other } else { saved.or(other) };
    let is_base = goes_on.is_some() && layers.preset.is_none();
    let preset = (!is_base).then(|| layers.preset());
    let base = match (&goes_on, preset) {
        (Some(saved), None) => saved.config.clone(),
        (_, preset) => preset.unwrap_or_else(|| layers.preset()).config(),
    };
    let own_name = goes_on.as_ref().map(|saved| saved.config.name.clone());
    let base = Config { name: own_name.unwrap_or(default_name), ..base };
    let mut config = layers.over(base.clone(), &[])?;
    if let Some(saved) = &goes_on {
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
    Ok(Chosen { config, resume, preset, data_of, notes })
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
fn remembered(config: &Config, layers: &Layers, saved: &Saved) -> Result<Vec<Setting>> {
    if layers.preset.is_none() && !layers.has_file() {
        return Ok(Vec::new());
    }
    let fields = config.fields()?;
    let value = |text: &str| format!("v = {text}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let overrides = saved.history.overrides.iter();
    let still = overrides.filter(|(place, known)| fields.get(*place) == Some(&known.from));
    let unsaid = still.filter(|(place, _)| layers.flag(place).is_none() && !place.contains('['));
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
        let saved = Saved::of(&Path::new("runs").join(name)).ok().flatten();
        saved.is_some_and(|saved| is_same(&saved.config.data.path, source))
    };
    OLDER.into_iter().find(is_on)
}

/// A flag that was given.
pub struct Flag {
    /// Its names without hyphens before them.
    pub names: &'static [&'static str],
    /// The field that it sets.
    pub place: &'static str,
    /// The value, as the program reads it.
    pub value: Value,
}

/// The flags with a value.
pub fn given<const N: usize>(flags: [(&'static [&'static str], &'static str, Option<Value>); N]) -> Vec<Flag> {
    flags.into_iter().filter_map(|(names, place, value)| Some(Flag { names, place, value: value? })).collect()
}

/// The flags as they were typed, for messages.
pub fn typed(flags: &[Flag], arguments: &[String]) -> Vec<Asked> {
    let asked = |flag: &Flag| {
        let (name, value) = find(arguments, flag.names)?;
        Some(Asked { field: flag.place.into(), flag: name, value })
    };
    flags.iter().filter_map(asked).collect()
}

/// The last flag of one of these names, and its values.
fn find(arguments: &[String], names: &[&str]) -> Option<(String, String)> {
    let is_flag = |argument: &&String| argument.starts_with("--");
    let (at, argument) = arguments.iter().enumerate().rev().find(|(_, argument)| {
        let flag = argument.split('=').next().unwrap_or_default();
        is_flag(argument) && names.contains(&flag[2..].replace('_', "-").as_str())
    })?;
    Some(match argument.split_once('=') {
        Some((flag, value)) => (flag.into(), value.into()),
        None => {
            let values: Vec<&str> =
                arguments[at + 1..].iter().take_while(|a| !is_flag(a)).map(String::as_str).collect();
            (argument.clone(), values.join(" "))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_quoted_as_they_were_typed() {
        let arguments = "train --lr 3 --batch_size_per_gpu=16 --global-crops-scale 0.1 1 --recompute --lr 1e-4";
        let arguments: Vec<String> = arguments.split(' ').map(Into::into).collect();
        let found = |names: &[&str]| find(&arguments, names).map(|(flag, value)| format!("{flag} {value}"));
        assert_eq!(found(&["lr"]).as_deref(), Some("--lr 1e-4"));
        assert_eq!(found(&["batch-size", "batch-size-per-gpu"]).as_deref(), Some("--batch_size_per_gpu 16"));
        assert_eq!(found(&["global-crops-scale"]).as_deref(), Some("--global-crops-scale 0.1 1"));
        assert_eq!(found(&["recompute"]).as_deref(), Some("--recompute "));
        assert_eq!(found(&["seed"]), None);
    }
}
