//! Where a configuration comes from: a preset, a file over it, flags over both.

use anyhow::{Context, Result};
use selfpatch_train::{Config, Preset, Setting, resolve};
use std::path::PathBuf;
use toml::Value;

/// What all commands that read training data take.
#[derive(clap::Args)]
pub struct Recipe {
    /// Images: a folder, a list (txt, csv, tsv), tar or parquet files, IDX or CIFAR files, videos,
    /// hf://owner/name[@rev][#split]; or `procedural`
    #[arg(long, visible_alias = "data-path", value_name = "SOURCE")]
    data: Option<String>,
    /// Configuration file; its fields are laid over the preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Recipe: default (made-up images), folder (own images, one machine), multichannel (own images that are not
    /// 8-bit RGB), paper (published)
    #[arg(long)]
    preset: Option<String>,
    /// Any field by its place, as in --set optim.lr=1e-3
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
}

impl Recipe {
    /// The preset, and the configuration with `flags` laid over everything but `--set`.
    pub fn resolve(&self, flags: Vec<Setting>) -> Result<(Preset, Config)> {
        let file = match &self.config {
            Some(path) => {
                Some((path.as_path(), std::fs::read_to_string(path).with_context(|| path.display().to_string())?))
            }
            None => None,
        };
        let set = self.set.iter().map(|text| setting(text)).collect::<Result<Vec<_>>>()?;
        let data = self.data.as_ref().map(|d| ("data.path".to_string(), Value::String(d.clone())));
        let settings: Vec<Setting> = data.into_iter().chain(flags).chain(set).collect();
        let preset = match &self.preset {
            Some(name) => Preset::named(name)?,
            None => guess(file.as_ref().map_or("", |(_, text)| text), &settings),
        };
        Ok((preset, resolve(preset, file.as_ref().map(|(p, t)| (*p, t.as_str())), &settings)?))
    }
}

/// The preset that fits the data: made-up, RGB, or something else.
fn guess(file: &str, settings: &[Setting]) -> Preset {
    let file = file.parse::<toml::Table>().unwrap_or_default();
    let of = |field: &str| {
        let own = settings.iter().rev().find(|(place, _)| place == &format!("data.{field}")).map(|(_, v)| v.clone());
        own.or_else(|| file.get("data")?.get(field).cloned())
    };
    if of("path").is_none_or(|path| path.as_str() == Some("procedural")) {
        return Preset::Default;
    }
    let channels = of("channels").and_then(|v| v.as_integer()).unwrap_or(3);
    if channels != 3 || of("range").is_some() { Preset::Multichannel } else { Preset::Folder }
}

/// `FIELD=VALUE`; what is no TOML value is text.
fn setting(text: &str) -> Result<Setting> {
    let (place, value) = text.split_once('=').with_context(|| format!("--set {text}: FIELD=VALUE expected"))?;
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    Ok((place.trim().into(), parsed.unwrap_or_else(|| Value::String(value.into()))))
}
