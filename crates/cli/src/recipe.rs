//! Where a configuration comes from: a preset, a file over it, flags over both.

use crate::flags::OneOf;
use anyhow::{Context, Result};
use selfpatch_train::layers::{Layers, setting};
use selfpatch_train::{Config, Preset, Setting};
use selfpatch_weights::open_file;
use std::path::PathBuf;

/// What all commands take that read training data.
#[derive(clap::Args)]
pub struct Recipe {
    /// Recipe that fills every setting: default (synthetic images, minutes on two cores), folder (your own images, one
    /// machine), multichannel (your own images that are not 8-bit RGB), paper (published settings) [default: the one that
    /// fits the data]
    #[arg(long, value_parser = OneOf(Preset::ALL.map(|(name, _)| name).to_vec()))]
    preset: Option<String>,
    /// Configuration file (TOML), which overrides the preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any field by its place, as in --set optim.lr=1e-3; overrides everything else and may be given several times
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
}

impl Recipe {
    /// The configuration with `flags` laid over everything but `--set`, and what the user should know of old names.
    pub fn resolve(&self, flags: Vec<Setting>) -> Result<(Config, Vec<String>)> {
        let layers = self.layers(flags)?;
        let config = layers.over(layers.preset().config(), &[])?;
        Ok((config, layers.notes))
    }

    /// Reads the file and the settings; `flags` lie between the file and `--set`.
    pub fn layers(&self, flags: Vec<Setting>) -> Result<Layers> {
        let file = match &self.config {
            Some(path) => {
                let text = open_file(path).and_then(std::io::read_to_string);
                Some((path.clone(), text.with_context(|| path.display().to_string())?))
            }
            None => None,
        };
        let set = self.set.iter().map(|text| setting(text)).collect::<Result<Vec<_>, _>>()?;
        let preset = self.preset.as_deref().map(Preset::named).transpose()?;
        Ok(Layers::new(preset, file, flags.into_iter().chain(set).collect()))
    }
}
