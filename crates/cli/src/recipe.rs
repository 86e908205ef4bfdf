//! Where a configuration comes from: a preset, a file over it, flags over both.

use anyhow::{Context, Result, ensure};
use selfpatch_nn::weights::open_file;
use selfpatch_train::{Config, Preset, Setting, resolve_over};
use std::path::PathBuf;
use toml::Value;

/// What all commands that read training data take.
#[derive(clap::Args)]
pub struct Recipe {
    /// Images: a folder, a list (txt, csv, tsv), tar or parquet files, IDX or CIFAR files, videos,
    /// hf://owner/name[@rev][#split]; or `procedural`
    #[arg(long, visible_alias = "data-path", value_name = "SOURCE")]
    pub data: Option<String>,
    /// Configuration file; its fields are laid over the preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Recipe: default (synthetic images), folder (own images, one machine), multichannel (own images that are not
    /// 8-bit RGB), paper (published)
    #[arg(long)]
    preset: Option<String>,
    /// Any field by its place, as in --set optim.lr=1e-3
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
}

/// What the user said of a recipe, read and parsed.
pub struct Layers {
    /// `--preset`.
    pub preset: Option<Preset>,
    /// The path and text of `--config`.
    file: Option<(PathBuf, String)>,
    /// The same as a table, empty for what is no TOML.
    table: toml::Table,
    /// `--data`, then flags of the command, then `--set`: the later wins.
    flags: Vec<Setting>,
}

impl Recipe {
    /// The preset, and the configuration with `flags` laid over everything but `--set`.
    pub fn resolve(&self, flags: Vec<Setting>) -> Result<(Preset, Config)> {
        let layers = self.layers(flags)?;
        let preset = layers.preset();
        Ok((preset, layers.over(preset.config(), &[])?))
    }

    /// Reads the file and the settings; `flags` lie between `--data` and `--set`.
    pub fn layers(&self, flags: Vec<Setting>) -> Result<Layers> {
        let file = match &self.config {
            Some(path) => {
                let text = open_file(path).and_then(std::io::read_to_string);
                Some((path.clone(), text.with_context(|| path.display().to_string())?))
            }
            None => None,
        };
        let table = file.as_ref().and_then(|(_, text)| text.parse().ok()).unwrap_or_default();
        let set = self.set.iter().map(|text| setting(text)).collect::<Result<Vec<_>>>()?;
        let data = self.data.as_ref().map(|d| ("data.path".to_string(), Value::String(d.clone())));
        Ok(Layers {
            preset: self.preset.as_deref().map(Preset::named).transpose()?,
            file,
            table,
            flags: data.into_iter().chain(flags).chain(set).collect(),
        })
    }
}

impl Layers {
    /// The preset asked for, or the one that fits the data: synthetic, RGB, or something else.
    pub fn preset(&self) -> Preset {
        if let Some(preset) = self.preset {
            return preset;
        }
        if self.text("data.path").is_none_or(|path| path == "procedural") {
            return Preset::Default;
        }
        let channels = self.value("data.channels").and_then(|v| v.as_integer()).unwrap_or(3);
        let is_rgb = channels == 3 && self.value("data.range").is_none();
        if is_rgb { Preset::Folder } else { Preset::Multichannel }
    }

    /// What flags or else the file say of a field.
    pub fn value(&self, place: &str) -> Option<&Value> {
        self.flag(place).or_else(|| {
            let mut parts = place.split('.');
            let first = self.table.get(parts.next()?)?;
            parts.try_fold(first, |at, part| at.as_table()?.get(part))
        })
    }

    /// The same of a field that is text, if it is not empty.
    pub fn text(&self, place: &str) -> Option<&str> {
        self.value(place).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// What flags say of a field.
    pub fn flag(&self, place: &str) -> Option<&Value> {
        self.flags.iter().rev().find(|(p, _)| p == place).map(|(_, value)| value)
    }

    /// Whether there is a file.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// `base` with the file, `between` and the flags laid over it.
    pub fn over(&self, base: Config, between: &[Setting]) -> Result<Config> {
        let flags: Vec<Setting> = between.iter().chain(&self.flags).cloned().collect();
        Ok(resolve_over(base, self.file.as_ref().map(|(p, t)| (p.as_path(), t.as_str())), &flags)?)
    }
}

/// `FIELD=VALUE`; what is no TOML value is text.
fn setting(text: &str) -> Result<Setting> {
    let (place, value) = text.split_once('=').with_context(|| format!("--set {text}: FIELD=VALUE expected"))?;
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let digits = value.trim().trim_start_matches(['-', '+']);
    let is_whole = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    ensure!(parsed.is_some() || !is_whole || digits.len() < 19, "--set {place}: {value} is beyond all whole numbers");
    Ok((place.trim().into(), parsed.unwrap_or_else(|| Value::String(value.into()))))
}
