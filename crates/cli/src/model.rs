//! The backbones to evaluate: of runs, of weight files.

use crate::bounds::{integer, real};
use crate::hub;
use anyhow::{Context, Result, bail};
use candle_core::Device;
use selfpatch_datasets::{Decoding, Range};
use selfpatch_model::Encoder;
use selfpatch_run::checkpoint;
use selfpatch_train::{Config, MEAN, STD};
use selfpatch_vit::{Pretrained, Rule, Stated, Vit, VitConfig};
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
    #[arg(long, requires = "weights", value_parser = integer(1, 1024))]
    patch_size: Option<usize>,
    /// Attention heads, where neither --arch nor the file says
    #[arg(long, requires = "weights", value_parser = integer(1, 1024))]
    num_heads: Option<usize>,
    /// Which network of a file that holds several: teacher, student, momentum_encoder, … [default: the teacher]
    #[arg(long, requires = "weights")]
    checkpoint_key: Option<String>,
    /// How positions are resized to other images than those trained on: as dino, timm or transformers do [default:
    /// as the program whose names the file has]
    #[arg(long, requires = "weights", value_name = "RULE", value_parser = rule)]
    positions: Option<Rule>,
    /// Mean of each channel on the scale of 0 to 1 [default: as the file states, else ImageNet's]
    #[arg(long, requires_all = ["weights", "std"], value_name = "M,M,M", value_delimiter = ',', value_parser = real(0f32, 1e4))]
    mean: Option<Vec<f32>>,
    /// Standard deviation of each channel, likewise
    #[arg(long, requires_all = ["weights", "mean"], value_name = "S,S,S", value_delimiter = ',', value_parser = real(1e-6f32, 1e4))]
    std: Option<Vec<f32>>,
}

fn rule(name: &str) -> Result<Rule, String> {
    let found = Rule::ALL.into_iter().find(|rule| rule.name() == name);
    found.ok_or_else(|| "choose dino, timm or transformers".into())
}

/// How a backbone is shown images.
pub struct Shown {
    /// How files become pixels.
    pub decoding: Decoding,
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel.
    pub std: Vec<f32>,
    /// Side of the images that it was trained on, in pixels; where nothing states it that of its table of positions, but
    /// not more than DINO's 224.
    pub pixels: usize,
}

/// DINO's size of image.
const PIXELS: usize = 224;

/// How the backbone of a weight file is shown images: as it states, else as DINO's evaluation does.
pub fn shown(vit: &Vit) -> Result<Shown> {
    let (stated, config) = (vit.stated(), vit.config());
    let (mean, std) = match (&stated.mean, &stated.std) {
        (Some(mean), Some(std)) => (mean.clone(), std.clone()),
        _ if config.in_channels == 3 => (MEAN.to_vec(), STD.to_vec()),
        _ => bail!(
            "--weights: takes {} channels, and nothing states their mean and deviation; say --mean and --std",
            config.in_channels
        ),
    };
    let decoding = Decoding {
        exif: false,
        exact_jpeg: true,
        channels: config.in_channels,
        range: stated.range.as_ref().map(|pairs| match pairs[..] {
            [pair] => Range::All(pair),
            _ => Range::Each(pairs.clone()),
        }),
        ..Decoding::default()
    };
    Ok(Shown { decoding, mean, std, pixels: stated.image_size.unwrap_or(PIXELS.min(config.image_size)) })
}

/// Refuses a backbone that cannot be shown frames of videos, which are RGB of 8 bits.
pub fn check_frames(vit: &Vit) -> Result<()> {
    let channels = vit.config().in_channels;
    if ![1, 3].contains(&channels) {
        bail!(
            "the backbone takes images of {channels} channels, and frames of videos have 3; measure it on labelled images \
             of its kind with eval-knn"
        );
    }
    if channels == 1 {
        note!("note: the backbone takes one channel: it sees the brightness of the frames");
    }
    if let Some(pairs) = &vit.stated().range
        && pairs.iter().any(|pair| *pair != [0., 255.])
    {
        note!(
            "note: the backbone was trained on values {}; of frames, which have 8 bits, 0 to 255 take their place",
            ranges(pairs)
        );
    }
    Ok(())
}

/// Ranges in words such as `0 to 4095`, one for all channels or one for each.
fn ranges(pairs: &[[f32; 2]]) -> String {
    pairs.iter().map(|[low, high]| format!("{low} to {high}")).collect::<Vec<_>>().join(", ")
}

/// What a run's configuration states of the images that its networks see.
pub fn seen(config: &Config) -> Stated {
    let data = &config.data;
    Stated {
        by: "config.toml".into(),
        channels: Some(data.channels),
        range: data.range.as_ref().map(|range| match range {
            Range::All(pair) => vec![*pair],
            Range::Each(pairs) => pairs.clone(),
        }),
        mean: Some(data.mean.clone()),
        std: Some(data.std.clone()),
        image_size: Some(config.model.image_size),
        ..Stated::default()
    }
}

/// Says what was found in a file, what was assumed, and how its images were normalised.
fn say(found: &Pretrained) {
    let (path, stated, config) = (found.path.display(), &found.stated, &found.config);
    note!("note: {path}: {}", found.told());
    for note in &found.notes {
        note!("note: {path}: {note}");
    }
    let list = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
    match (&stated.mean, &stated.std) {
        (Some(mean), Some(std)) => {
            let range = stated.range.as_ref().map(|pairs| format!("values {}, ", ranges(pairs))).unwrap_or_default();
            let (count, mean, std) = (found.config.in_channels, list(mean), list(std));
            note!("note: images by {}: {count} channels, {range}mean {mean}, deviation {std}", stated.by);
        }
        _ if found.config.in_channels == 3 => note!(
            "note: nothing states how images were normalised: ImageNet's mean {} and deviation {} are taken (--mean, --std)",
            list(&MEAN),
            list(&STD)
        ),
        _ => {}
    }
    note!(
        "note: positions on other grids than {0} x {0} by the rule of {1} (--positions)",
        config.table_side(),
        config.positions.name()
    );
}

/// A backbone from a file, compared with what `--arch` and `--patch-size` say of it.
pub fn load(args: &WeightFile, path: &Path, device: &Device) -> Result<Vit> {
    let path = &*hub::local(path)?;
    let arch = args.arch.as_ref().map(|name| VitConfig::arch(name, args.patch_size.unwrap_or(16))).transpose()?;
    let heads = arch.as_ref().map(|a| a.num_heads).or(args.num_heads).unwrap_or(0);
    let mut found = Pretrained::read(path, args.checkpoint_key.as_deref(), heads, device)?;
    if let Some(rule) = args.positions {
        found.config.positions = rule;
    }
    if let (Some(mean), Some(std)) = (&args.mean, &args.std) {
        let channels = found.config.in_channels;
        if mean.len() != channels || std.len() != channels || std.iter().any(|v| v.is_nan() || *v <= 0.) {
            bail!(
                "--mean, --std: {} takes {channels} channels; give a number for each, deviations above 0",
                path.display()
            );
        }
        let (mean, std) = (Some(mean.clone()), Some(std.clone()));
        found.stated = Stated { by: "--mean and --std".into(), mean, std, ..found.stated };
    }
    if let Some(arch) = arch
        && (arch.embed_dim, arch.depth) != (found.config.embed_dim, found.config.depth)
    {
        bail!(
            "--arch {}: has {} blocks of width {}, but {} has {} of width {}",
            args.arch.as_deref().unwrap_or_default(),
            arch.depth,
            arch.embed_dim,
            path.display(),
            found.config.depth,
            found.config.embed_dim
        );
    }
    if let Some(patch) = args.patch_size
        && patch != found.config.patch_size
    {
        bail!("--patch-size {patch}: {} has patches of {} pixels", path.display(), found.config.patch_size);
    }
    say(&found);
    Ok(found.vit(device)?)
}

/// The newest run in a folder: the one whose backbone was exported last.
pub fn newest(runs: &Path) -> Result<PathBuf> {
    let none =
        || format!("{}: holds no finished run; run `cargo xtask train` first, or pass --weights", runs.display());
    let entries = std::fs::read_dir(runs).with_context(none)?;
    entries
        .filter_map(|entry| {
            let run = entry.ok()?.path();
            let time = selfpatch_model::backbone(&run).metadata().ok()?.modified().ok()?;
            Some((time, run))
        })
        .max()
        .map(|(_, run)| run)
        .with_context(none)
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
    let path = selfpatch_model::backbone(run);
    if !path.is_file() {
        bail!("{}: has not saved a backbone yet", run.display());
    }
    // An export of an earlier version states less than the configuration does.
    Ok(Vit::load(&path, None, config.vit()?.num_heads, device)?.with_stated(seen(config)))
}

/// The teacher of a run with its class attention.
pub fn encoder(run: &Path, config: &Config, device: &Device) -> Result<Encoder> {
    let backbone = trained(run, config, device)?;
    let attention = match Encoder::attention_of_run(run, backbone.config(), device)? {
        Some(attention) => Some(attention),
        None => {
            // A run of an older version: its checkpoints have it.
            let found = checkpoint::newest::<Config>(run, |warning| note!("warning: {warning}"))?;
            let found = found.with_context(|| {
                let backbone = selfpatch_model::backbone(run);
                format!(
                    "{}: has neither {} nor a checkpoint, so its class attention is lost; for its bare backbone say --weights {}",
                    run.display(),
                    selfpatch_model::CLASS_ATTENTION,
                    backbone.display()
                )
            })?;
            let path = found.path.join("teacher.safetensors");
            note!("note: {}: of an older version; its class attention is that of {}", run.display(), path.display());
            Encoder::attention_beside(&path, None, backbone.config(), device)?
        }
    };
    Ok(Encoder { backbone, attention })
}

/// A backbone from a file with the class attention beside it, if there is one.
pub fn encoder_of_file(args: &WeightFile, path: &Path, device: &Device) -> Result<Encoder> {
    let backbone = load(args, path, device)?;
    let path = &*hub::local(path)?;
    let attention = Encoder::attention_beside(path, args.checkpoint_key.as_deref(), backbone.config(), device)?;
    Ok(Encoder { backbone, attention })
}
