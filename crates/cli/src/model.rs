//! The backbones to evaluate: of runs, of weight files.

use crate::bounds::whole;
use crate::hub;
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use selfpatch_aggregation::{Aggregator, AggregatorConfig};
use selfpatch_nn::Params;
use selfpatch_nn::weights::{WeightsError, check_strict, read};
use selfpatch_train::Config;
use selfpatch_vit::{Vit, VitConfig};
use std::path::{Path, PathBuf};

/// A weight file, and what is said of it.
#[derive(clap::Args)]
pub struct WeightFile {
    /// A weight file, safetensors or .pth, or one of the hub: `hf://owner/name[@revision]/path/in/repo`
    #[arg(long, alias = "pretrained-weights", value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// vit_tiny, vit_small or vit_base; must fit the file
    #[arg(long, requires = "weights")]
    arch: Option<String>,
    /// Side of a patch in pixels; must fit the file
    #[arg(long, requires = "weights", value_parser = whole(1, 1024))]
    patch_size: Option<usize>,
    /// Attention heads, where neither --arch nor the file says
    #[arg(long, requires = "weights", value_parser = whole(1, 1024))]
    num_heads: Option<usize>,
    /// Which network of a training checkpoint: teacher or student
    #[arg(long, requires = "weights")]
    checkpoint_key: Option<String>,
}

/// A backbone from a file, compared with what `--arch` and `--patch-size` say of it.
pub fn load(args: &WeightFile, path: &Path, device: &Device) -> Result<Vit> {
    let path = &*hub::local(path)?;
    let arch = args.arch.as_ref().map(|name| VitConfig::arch(name, args.patch_size.unwrap_or(16))).transpose()?;
    let heads = arch.as_ref().map(|a| a.num_heads).or(args.num_heads).unwrap_or(0);
    let vit = match Vit::load(path, args.checkpoint_key.as_deref(), heads, device) {
        // As in DINO, a key is no mistake on a file that holds nothing but a backbone.
        Err(WeightsError::NoSuchKey { available, .. }) if available.contains("patch_embed") => {
            note!("note: {} holds one backbone and no keys; --checkpoint-key was not needed", path.display());
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

/// The class attention of a whole network of ours, beside whose backbone it was trained; `None` for a file without.
pub fn class_attention(file: &WeightFile, path: &Path, vit: &Vit, device: &Device) -> Result<Option<Aggregator>> {
    let path = &*hub::local(path)?;
    let weights = match read(path, device)?.select(file.checkpoint_key.as_deref()) {
        // One backbone and no keys, which `load` has said.
        Err(WeightsError::NoSuchKey { .. }) => return Ok(None),
        other => other?,
    };
    let wrapped = weights.tensors.keys().any(|name| name.starts_with("module."));
    let weights = if wrapped { weights.scoped("module") } else { weights }.scoped("ca_head");
    if weights.tensors.is_empty() {
        return Ok(None);
    }
    let block = |name: &String| name.strip_prefix("cls_blocks.")?.split('.').next()?.parse::<usize>().ok();
    let depth = weights.tensors.keys().filter_map(block).max().map_or(0, |last| last + 1);
    let of = vit.config();
    let config = AggregatorConfig { depth, ..AggregatorConfig::new(of.embed_dim, of.num_heads) };
    let params = Params::frozen(0);
    let head = Aggregator::new(&config, params.builder(DType::F32, device))?;
    check_strict(&params.shapes(), &weights.tensors, path)?;
    params.assign(weights.tensors.iter().map(|(name, t)| (name.as_str(), t)))?;
    Ok(Some(head))
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

/// The exported teacher of a run.
pub fn backbone(run: &Path) -> PathBuf {
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
