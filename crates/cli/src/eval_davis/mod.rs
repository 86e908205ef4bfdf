//! `selfpatch eval-davis`.

mod overlay;
mod page;
pub mod results;

use crate::device::{self, Compute};
use crate::model::{self, WeightFile};
use anyhow::{Result, bail};
use candle_core::Device;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use results::Results;
use selfpatch_datasets::{DavisFolder, ProceduralVideos, VideoSource};
use selfpatch_eval::{
    DavisReport, Evaluation, FrameSize, Propagation, Protocol, VitFeatures, evaluate, first_mask_copied, table,
};
use selfpatch_train::config::Precision;
use selfpatch_vit::Vit;
use std::collections::BTreeSet;
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
    #[command(flatten)]
    file: WeightFile,
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
    /// Divisor of the cosine in the exponent of a vote
    #[arg(long, default_value_t = 0.1)]
    temperature: f32,
    /// Short side of the frames that the model sees, in pixels [default: 480; made-up videos keep theirs]
    #[arg(long, value_name = "PIXELS")]
    scale_size: Option<usize>,
    /// Block whose tokens are the features, from 1 [default: the last]
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    /// Pass the tokens through the backbone's final norm [default: if it has one]
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    norm: Option<bool>,
    /// Write masks, scores (CSV, JSON), overlays and report.html there; with several runs, a folder for each
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Results of earlier evaluations (their --output-dir) to show beside these in report.html
    #[arg(long, value_name = "DIR", num_args = 1.., requires = "output_dir")]
    compare: Vec<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// What the backbone computes in
    #[arg(long, value_parser = device::precision(), default_value = "f32")]
    precision: Precision,
    #[command(flatten)]
    compute: Compute,
}

/// Evaluates, prints and writes. False if a sequence failed.
pub fn run(args: &Args) -> Result<bool> {
    let device = args.compute.device()?;
    let (videos, protocol) = videos(args)?;
    let judge = Judge { args, videos: &*videos, protocol, device: &device };
    let mut models: Vec<(String, Evaluation)> = Vec::new();
    if let Some(path) = &args.file.weights {
        let vit = model::load(&args.file, path, &device)?;
        model::check_frames(&vit)?;
        let label = path.display().to_string();
        let results = args.output_dir.as_deref().map(|dir| Results::new(dir, &label)).transpose()?;
        models.push((label, judge.evaluate("weights", vit, results.as_ref())?));
        print(args, &models)?;
    } else {
        let runs = if args.run.is_empty() { vec![model::newest(Path::new("runs"))?] } else { args.run.clone() };
        let folders = args.output_dir.as_deref().map(|dir| folders(dir, &runs)).transpose()?;
        for (i, run) in runs.iter().enumerate() {
            let config = model::config_of(run)?;
            let vit = model::trained(run, &config, &device)?;
            model::check_frames(&vit)?;
            let label = format!("{}: trained teacher", run.display());
            let results = folders.as_ref().map(|folders| Results::new(&folders[i], &label)).transpose()?;
            models.push((label, judge.evaluate("trained teacher", vit, results.as_ref())?));
            if i + 1 == runs.len() && !args.json {
                let label = format!("{}: random initialisation", run.display());
                let vit = model::untrained(&config, &device)?;
                models.push((label, judge.evaluate("random initialisation", vit, None)?));
            }
        }
        if let Some((dir, folders)) = args.output_dir.as_ref().zip(folders).filter(|_| runs.len() > 1) {
            results::write_page(dir, &[folders, args.compare.clone()].concat(), &*videos)?;
        }
        if !args.json {
            models.push(("first mask copied".into(), first_mask_copied(&*videos)?));
        }
        print(args, &models)?;
    }
    // Most of what goes wrong does so for every model.
    let mut told = BTreeSet::new();
    for (_, evaluation) in &models {
        let unscored = evaluation.unscored.iter();
        let mut lines: Vec<String> =
            unscored.map(|name| format!("note: {name} has too few annotations to be scored")).collect();
        lines.extend(evaluation.failures.iter().map(|(name, e)| match e.to_string() {
            text if text.contains(name.as_str()) => format!("error: {text}"),
            text => format!("error: sequence {name}: {text}"),
        }));
        lines.into_iter().filter(|line| told.insert(line.clone())).for_each(|line| eprintln!("{line}"));
    }
    Ok(models.iter().all(|(_, e)| e.failures.is_empty()))
}

/// Where the results of each run go: `dir` for a single one, else a folder of the run's name in it.
fn folders(dir: &Path, runs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if let [_] = runs {
        return Ok(vec![dir.to_path_buf()]);
    }
    let folders: Vec<PathBuf> = runs.iter().map(|run| dir.join(run.file_name().unwrap_or(run.as_os_str()))).collect();
    match folders.iter().collect::<BTreeSet<_>>().len() == folders.len() {
        true => Ok(folders),
        false => bail!("--output-dir: two of the runs have one name, so their results would share a folder"),
    }
}

/// What all models are judged by.
struct Judge<'a> {
    args: &'a Args,
    videos: &'a dyn VideoSource,
    protocol: Protocol,
    device: &'a Device,
}

impl Judge<'_> {
    /// Carries the masks through all videos, with a progress bar, and writes the results if there is a place
    /// for them.
    fn evaluate(&self, label: &str, vit: Vit, results: Option<&Results>) -> Result<Evaluation> {
        let mut model = VitFeatures::new(vit, self.device.clone()).in_precision(self.args.precision.into());
        if let Some(layer) = self.args.layer {
            model = model.of_layer(layer)?;
        }
        if let Some(norm) = self.args.norm {
            model = model.with_norm(norm)?;
        }
        let bar = progress(label, self.args.json);
        let mut last = None;
        let evaluation = evaluate(self.videos, &model, &self.protocol, &mut |done| {
            bar.set_length((done.sequences * done.frames) as u64);
            bar.set_position((done.index * done.frames + done.frame) as u64);
            if last != Some(done.index) {
                last = Some(done.index);
                bar.set_message(done.sequence.to_string());
            }
            let Some((results, mask)) = results.zip(done.mask) else { return Ok(()) };
            results.mask(self.videos, done.sequence, done.frame, mask)
        })?;
        bar.finish_and_clear();
        if let Some(results) = results {
            results.finish(&evaluation, &self.args.split)?;
            let compare = std::iter::once(results.folder().to_path_buf()).chain(self.args.compare.clone());
            results::write_overlays(results.folder(), self.videos)?;
            results::write_page(results.folder(), &compare.collect::<Vec<_>>(), self.videos)?;
            eprintln!("results: {}", results.folder().join("report.html").display());
        }
        Ok(evaluation)
    }
}

fn print(args: &Args, all: &[(String, Evaluation)]) -> Result<()> {
    match (args.json, all) {
        (true, [(_, evaluation)]) => println!("{}", serde_json::to_string_pretty(&evaluation.report)?),
        (true, many) => {
            let all: serde_json::Map<String, serde_json::Value> =
                many.iter().map(|(l, e)| Ok((l.clone(), serde_json::to_value(&e.report)?))).collect::<Result<_>>()?;
            println!("{}", serde_json::to_string_pretty(&all)?);
        }
        _ => {
            let rows: Vec<(&str, &DavisReport)> = all.iter().map(|(l, e)| (l.as_str(), &e.report)).collect();
            print!("{}", table(&rows, args.file.weights.is_some()));
        }
    }
    Ok(())
}

/// The made-up test videos.
pub fn made_up() -> ProceduralVideos {
    let (seed, videos, frames, pixels) = PROCEDURAL;
    ProceduralVideos::new(seed, videos, frames, pixels)
}

fn videos(args: &Args) -> Result<(Box<dyn VideoSource>, Protocol)> {
    let propagation = Propagation {
        n_last_frames: args.n_last_frames,
        neighbourhood: args.size_mask_neighborhood,
        top_k: args.topk,
        temperature: args.temperature,
    };
    let size = args.scale_size.map(FrameSize::ShortSide);
    let protocol = |usual| Protocol { propagation, size: size.unwrap_or(usual), all_masks: args.output_dir.is_some() };
    let Some(root) = &args.data_path else {
        if !args.sequences.is_empty() {
            bail!("--sequences: needs --data-path");
        }
        return Ok((Box::new(made_up()), protocol(FrameSize::Native)));
    };
    let folder = DavisFolder::open(root, &args.year, &args.split, &args.resolution)?;
    let folder = if args.sequences.is_empty() { folder } else { folder.with_sequences(&args.sequences)? };
    Ok((Box::new(folder), protocol(FrameSize::default())))
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
