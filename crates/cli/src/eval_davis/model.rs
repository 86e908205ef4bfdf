//! The backbones to evaluate: of runs, of weight files.

use super::Args;
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use selfpatch_nn::Params;
use selfpatch_nn::weights::WeightsError;
use selfpatch_train::Config;
use selfpatch_vit::{Vit, VitConfig};
use std::path::{Path, PathBuf};

/// A backbone from a file, compared with what `--arch` and `--patch-size` say of it.
pub fn load(args: &Args, path: &Path, device: &Device) -> Result<Vit> {
    let arch = args.arch.as_ref().map(|name| VitConfig::arch(name, args.patch_size.unwrap_or(16))).transpose()?;
    let heads = arch.as_ref().map(|a| a.num_heads).or(args.num_heads).unwrap_or(0);
    let vit = match Vit::load(path, args.checkpoint_key.as_deref(), heads, device) {
        // As in DINO, a key is no mistake on a file that holds nothing but a backbone.
        Err(WeightsError::NoSuchKey { available, .. }) if available.contains("patch_embed") => {
            eprintln!("note: {} holds one backbone and no keys; --checkpoint-key was not needed", path.display());
            Vit::load(path, None, heads, device)?
        }
        other => other?,
    };
    let found = vit.config();
    if let Some(arch) = arch
        && (arch.embed_dim, arch.depth) != (found.embed_dim, found.depth)
    {
        bail!(
            "--arch {}: has {} blocks of width {}, but {} has {} of width {}",
            args.arch.as_deref().unwrap_or_default(),
            arch.depth,
            arch.embed_dim,
            path.display(),
            found.depth,
            found.embed_dim
        );
    }
    if let Some(patch) = args.patch_size
        && patch != found.patch_size
    {
        bail!("--patch-size {patch}: {} has patches of {} pixels", path.display(), found.patch_size);
    }
    Ok(vit)
}

/// The newest run in a folder: the one whose backbone was exported last.
pub fn newest(runs: &Path) -> Result<PathBuf> {
    let none =
        || format!("{}: holds no finished run; run `cargo xtask train` first, or pass --weights", runs.display());
    let entries = std::fs::read_dir(runs).with_context(none)?;
    entries
        .filter_map(|entry| {
            let run = entry.ok()?.path();
            let time = backbone(&run).metadata().ok()?.modified().ok()?;
            Some((time, run))
        })
        .max()
        .map(|(_, run)| run)
        .with_context(none)
}

fn backbone(run: &Path) -> PathBuf {
    run.join("export").join("backbone.safetensors")
}

/// The configuration that a run was made with.
pub fn config_of(run: &Path) -> Result<Config> {
    let path = run.join("config.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: not a run, it has no config.toml", run.display()))?;
    Ok(Config::parse(&path, &text)?)
}

/// The teacher of a run.
pub fn trained(run: &Path, config: &Config, device: &Device) -> Result<Vit> {
    let path = backbone(run);
    if !path.is_file() {
        bail!("{}: has not saved a backbone yet", run.display());
    }
    Ok(Vit::load(&path, None, config.vit()?.num_heads, device)?)
}

/// The backbone with which the run began.
pub fn untrained(config: &Config, device: &Device) -> Result<Vit> {
    let params = Params::frozen(config.seed);
    Ok(Vit::new(&config.vit()?, params.builder(DType::F32, device).pp("backbone"))?)
}
