//! `selfpatch eval-davis`.

use crate::device::Compute;
use crate::hub;
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use selfpatch_datasets::{DavisFolder, ProceduralVideos, VideoSource};
use selfpatch_eval::{DavisReport, FrameSize, Propagation, VitFeatures, evaluate, first_mask_copied, table};
use selfpatch_nn::Params;
use selfpatch_nn::weights::WeightsError;
use selfpatch_train::Config;
use selfpatch_vit::{Vit, VitConfig};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// The procedural test videos: never a training scene, the same for every run.
const PROCEDURAL: (u64, usize, usize, usize) = (0, 12, 16, 128); // seed, videos, frames, pixels

/// What is evaluated, on what, and how.
#[derive(clap::Args)]
pub struct Args {
    /// Runs to compare [default: the newest in ./runs]
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with = "weights")]
    run: Vec<PathBuf>,
    /// A weight file, safetensors or .pth, or one of the hub: `hf://owner/name[@revision]/path/in/repo`
    #[arg(long, alias = "pretrained-weights", value_name = "FILE")]
    weights: Option<PathBuf>,
    /// vit_tiny, vit_small or vit_base; must fit the file
    #[arg(long, requires = "weights")]
    arch: Option<String>,
    /// Side of a patch in pixels; must fit the file
    #[arg(long, requires = "weights")]
    patch_size: Option<usize>,
    /// Attention heads, where neither --arch nor the file says
    #[arg(long, requires = "weights")]
    num_heads: Option<usize>,
    /// Which network of a training checkpoint: teacher or student
    #[arg(long, requires = "weights")]
    checkpoint_key: Option<String>,
    /// A folder in the DAVIS layout [default: made-up videos]
    #[arg(long, value_name = "DIR")]
    data_path: Option<PathBuf>,
    /// ImageSets/YEAR/SPLIT.txt
    #[arg(long, default_value = "val")]
    split: String,
    /// ImageSets/YEAR
    #[arg(long, default_value = "2017")]
    year: String,
    /// JPEGImages/RESOLUTION
    #[arg(long, default_value = "480p")]
    resolution: String,
    /// Only these sequences
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    sequences: Vec<String>,
    /// Context frames besides the first
    #[arg(long, default_value_t = 7)]
    n_last_frames: usize,
    /// Radius of the window in patches; 0 for none
    #[arg(long, default_value_t = 12)]
    size_mask_neighborhood: usize,
    /// Neighbours that vote
    #[arg(long, default_value_t = 5)]
    topk: usize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: Compute,
}

/// Evaluates and prints.
pub fn run(args: &Args) -> Result<()> {
    let device = args.compute.device()?;
    let propagation = Propagation {
        n_last_frames: args.n_last_frames,
        neighbourhood: args.size_mask_neighborhood,
        top_k: args.topk,
        ..Propagation::default()
    };
    let (videos, size) = videos(args)?;
    let judge = |label: &str, vit: Vit| -> Result<DavisReport> {
        let bar = progress(label, args.json);
        let model = VitFeatures::new(vit, device.clone());
        let mut done = (usize::MAX, 0);
        let report = evaluate(&*videos, &model, &propagation, size, &mut |p| {
            if done != (p.index, p.frame) {
                done = (p.index, p.frame);
                bar.set_length((p.sequences * p.frames) as u64);
                bar.set_position((p.index * p.frames + p.frame) as u64);
                bar.set_message(p.sequence.to_string());
            }
        })?;
        bar.finish_and_clear();
        Ok(report)
    };
    if let Some(path) = &args.weights {
        let report = judge("weights", load(args, &hub::local(path)?, &device)?)?;
        return print(args, &[(path.display().to_string(), report)]);
    }
    let runs = if args.run.is_empty() { vec![newest(Path::new("runs"))?] } else { args.run.clone() };
    let mut reports = Vec::new();
    for (i, run) in runs.iter().enumerate() {
        let config = config_of(run)?;
        let trained = trained(run, &config, &device)?;
        reports.push((format!("{}: trained teacher", run.display()), judge("trained teacher", trained)?));
        if i + 1 == runs.len() && !args.json {
            let label = format!("{}: random initialisation", run.display());
            reports.push((label, judge("random initialisation", untrained(&config, &device)?)?));
        }
    }
    if !args.json {
        reports.push(("first mask copied".into(), first_mask_copied(&*videos)?));
    }
    print(args, &reports)
}

fn print(args: &Args, reports: &[(String, DavisReport)]) -> Result<()> {
    match (args.json, reports) {
        (true, [(_, report)]) => println!("{}", serde_json::to_string_pretty(report)?),
        (true, many) => {
            let all: serde_json::Map<String, serde_json::Value> =
                many.iter().map(|(l, r)| Ok((l.clone(), serde_json::to_value(r)?))).collect::<Result<_>>()?;
            println!("{}", serde_json::to_string_pretty(&all)?);
        }
        _ => {
            let rows: Vec<(&str, &DavisReport)> = reports.iter().map(|(l, r)| (l.as_str(), r)).collect();
            print!("{}", table(&rows, args.weights.is_some()));
        }
    }
    Ok(())
}

fn videos(args: &Args) -> Result<(Box<dyn VideoSource>, FrameSize)> {
    let Some(root) = &args.data_path else {
        if !args.sequences.is_empty() {
            bail!("--sequences: needs --data-path");
        }
        let (seed, videos, frames, pixels) = PROCEDURAL;
        return Ok((Box::new(ProceduralVideos::new(seed, videos, frames, pixels)), FrameSize::Native));
    };
    let folder = DavisFolder::open(root, &args.year, &args.split, &args.resolution)?;
    let folder = if args.sequences.is_empty() { folder } else { folder.with_sequences(&args.sequences)? };
    Ok((Box::new(folder), FrameSize::default()))
}

/// A backbone from a file, compared with what `--arch` and `--patch-size` say of it.
fn load(args: &Args, path: &Path, device: &Device) -> Result<Vit> {
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
fn newest(runs: &Path) -> Result<PathBuf> {
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

fn config_of(run: &Path) -> Result<Config> {
    let path = run.join("config.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: not a run, it has no config.toml", run.display()))?;
    Ok(Config::parse(&path, &text)?)
}

fn trained(run: &Path, config: &Config, device: &Device) -> Result<Vit> {
    let path = backbone(run);
    if !path.is_file() {
        bail!("{}: has not saved a backbone yet", run.display());
    }
    Ok(Vit::load(&path, None, config.vit()?.num_heads, device)?)
}

/// The backbone with which the run began.
fn untrained(config: &Config, device: &Device) -> Result<Vit> {
    let params = Params::frozen(config.seed);
    Ok(Vit::new(&config.vit()?, params.builder(DType::F32, device).pp("backbone"))?)
}

fn progress(label: &str, quiet: bool) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if quiet || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} frames {msg} | left {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(label.to_string());
    bar
}
