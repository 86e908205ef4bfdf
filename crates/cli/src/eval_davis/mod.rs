//! `selfpatch eval-davis`.

mod judge;
mod overlay;
mod page;
pub mod results;
pub mod synthetic;

use crate::about::{self, Facts, facts};
use crate::bounds::{integer, real};
use crate::device::{self, Compute};
use crate::model::{self, WeightFile};
use crate::{signals, whole};
use anyhow::{Context, Result, bail};
use judge::{Candidate, Judge, Judged};
use results::Results;
use selfpatch_datasets::{DavisFolder, VideoSource};
use selfpatch_eval::{FrameSize, Objects, Propagation, Row, table};
use selfpatch_train::config::Precision;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What is evaluated, on what, and how.
#[derive(clap::Args)]
pub struct Args {
    /// Runs to compare [default: the newest in ./runs]
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with = "weights")]
    run: Vec<PathBuf>,
    #[command(flatten)]
    file: WeightFile,
    /// A folder in the DAVIS layout [default: synthetic videos]
    #[arg(long, value_name = "DIR")]
    data_path: Option<PathBuf>,
    /// Tokens per side of the synthetic videos, 8 to 64 [default: 32]
    #[arg(long, value_name = "TOKENS", conflicts_with_all = ["data_path", "scale_size"],
        value_parser = clap::value_parser!(u64).range(synthetic::GRIDS))]
    grid: Option<u64>,
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
    #[arg(long, default_value_t = 7, value_parser = integer(0, 1000))]
    n_last_frames: usize,
    /// Radius of the window in patches; 0 for none
    #[arg(long, default_value_t = 12, value_parser = integer(0, 1000))]
    size_mask_neighborhood: usize,
    /// Neighbours that vote
    #[arg(long, default_value_t = 5, value_parser = integer(1, 10_000))]
    topk: usize,
    /// Divisor of the cosine in the exponent of a vote
    #[arg(long, default_value_t = 0.1, value_parser = real(0.0125f32, 1e4))]
    temperature: f32,
    /// Short side of the frames that the model sees, in pixels [default: 480; of synthetic videos what --grid says]
    #[arg(long, value_name = "PIXELS", value_parser = integer(1, 4096))]
    scale_size: Option<usize>,
    /// Block whose tokens are the features, from 1 [default: the last]
    #[arg(long, value_name = "N", value_parser = integer(1, 1024))]
    layer: Option<usize>,
    /// Pass the tokens through the backbone's final norm [default: if it has one]
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    norm: Option<bool>,
    /// Count the objects as the official evaluator does: all ids up to the highest of the first mask
    #[arg(long)]
    official: bool,
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

/// The videos of an evaluation.
pub struct Videos {
    /// Them.
    pub source: Box<dyn VideoSource>,
    /// What they are, in words.
    pub facts: Facts,
    /// At which size a model sees their frames.
    pub size: Size,
}

/// At which size a model sees frames.
#[derive(Clone, Copy)]
pub enum Size {
    /// The same for every model.
    Fixed(FrameSize),
    /// Tokens per side of a square frame, whatever the patches.
    Grid(usize),
}

impl Size {
    /// For a model with patches of `patch` pixels.
    pub fn of(self, patch: usize) -> FrameSize {
        match self {
            Self::Fixed(size) => size,
            Self::Grid(tokens) => FrameSize::ShortSide(tokens * patch),
        }
    }
}

/// Evaluates, prints and writes. False if a sequence failed.
pub fn run(args: &Args) -> Result<bool> {
    let device = args.compute.device()?;
    let videos = args.videos()?;
    let mut judge = Judge::new(args, &videos, &device);
    let mut models = Vec::new();
    if let Some(path) = &args.file.weights {
        swept_at_end(args.output_dir.as_slice())?;
        let vit = model::load(&args.file, path, &device)?;
        model::check_frames(&vit)?;
        let (label, weights) = (path.display().to_string(), about::weights(path, vit.config()));
        let results = args.output_dir.as_deref().map(Results::new).transpose()?;
        let candidate = Candidate { label, weights, vit, seed: about::SEED };
        models.push(judge.judge("weights", candidate, results.as_ref())?);
    } else {
        let runs = if args.run.is_empty() { vec![model::newest(Path::new("runs"))?] } else { args.run.clone() };
        let folders = args.output_dir.as_deref().map(|dir| folders(dir, &runs)).transpose()?;
        let parent = args.output_dir.iter().cloned();
        swept_at_end(&parent.chain(folders.iter().flatten().cloned()).collect::<Vec<_>>())?;
        for (i, run) in runs.iter().enumerate() {
            let config = model::config_of(run)?;
            let vit = model::trained(run, &config, &device)?;
            model::check_frames(&vit)?;
            let label = format!("{}: trained teacher", run.display());
            let results = folders.as_ref().map(|folders| Results::new(&folders[i])).transpose()?;
            let weights = about::weights(&model::backbone(run), vit.config());
            let candidate = Candidate { label, weights, vit, seed: config.seed };
            models.push(judge.judge("trained teacher", candidate, results.as_ref())?);
        }
        if let Some((dir, folders)) = args.output_dir.as_ref().zip(folders).filter(|_| runs.len() > 1) {
            results::write_page(dir, &[folders, args.compare.clone()].concat(), &*videos.source)?;
        }
    }
    print(args, &models)?;
    // Most of what goes wrong does so for every model.
    let mut told = BTreeSet::new();
    let evaluations = || models.iter().flat_map(|m| [&m.evaluation, &m.random, &m.floor]);
    for evaluation in evaluations() {
        let unscored = evaluation.unscored.iter();
        let mut lines: Vec<String> =
            unscored.map(|name| format!("note: {name} has too few annotations to be scored")).collect();
        lines.extend(evaluation.notes.iter().map(|(name, note)| format!("note: sequence {name}: {note}")));
        lines.extend(evaluation.failures.iter().map(|(name, e)| match e.to_string() {
            text if text.contains(name.as_str()) => format!("error: {text}"),
            text => format!("error: sequence {name}: {text}"),
        }));
        lines.into_iter().filter(|line| told.insert(line.clone())).for_each(|line| note!("{line}"));
    }
    Ok(evaluations().all(|e| e.failures.is_empty()))
}

/// Has a signal that ends the program leave no half-written file in these folders of results.
fn swept_at_end(folders: &[PathBuf]) -> Result<()> {
    let places: Vec<_> = folders.iter().flat_map(|folder| Results::places(folder)).collect();
    signals::before_end(move || places.iter().for_each(|(folder, deep)| whole::sweep(folder, *deep)))
        .context("signal handlers")
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

fn print(args: &Args, models: &[Judged]) -> Result<()> {
    match (args.json, models) {
        (true, [model]) => say!("{}", serde_json::to_string_pretty(&model.json()?)?),
        (true, many) => {
            let all: serde_json::Map<String, serde_json::Value> =
                many.iter().map(|m| Ok((m.label.clone(), m.json()?))).collect::<Result<_>>()?;
            say!("{}", serde_json::to_string_pretty(&all)?);
        }
        _ => say!("{}{}", scores(models, args.file.weights.is_some()), circumstances(models).trim_end()),
    }
    Ok(())
}

/// The models, then each network with random initial values, then the first mask; with `videos` those of each model.
fn scores(models: &[Judged], videos: bool) -> String {
    let mut random: Vec<(String, &Judged)> = Vec::new();
    for model in models.iter().rev() {
        if !random.iter().any(|(_, other)| Rc::ptr_eq(&other.random, &model.random)) {
            let name = model.label.strip_suffix("trained teacher").unwrap_or_default();
            random.insert(0, (format!("{name}random initialisation"), model));
        }
    }
    let row = |label, report, videos| Row { label, report, videos };
    let mut rows: Vec<Row> = models.iter().map(|m| row(m.label.as_str(), &m.evaluation.report, videos)).collect();
    rows.extend(random.iter().map(|(label, m)| row(label.as_str(), &m.random.report, false)));
    rows.extend(models.first().map(|m| row("first mask copied", &m.floor.report, false)));
    table(&rows)
}

/// What the scores belong to, a line each; those of several models where they differ.
fn circumstances(models: &[Judged]) -> String {
    let mut text = String::from("\n");
    let mut told = BTreeSet::new();
    for (name, line) in models.iter().flat_map(|m| m.about.lines()) {
        if told.insert((name, line.clone())) {
            text += &format!("{name}: {line}\n");
        }
    }
    text
}

impl Args {
    fn objects(&self) -> Objects {
        if self.official { Objects::Official } else { Objects::Shown }
    }

    fn propagation(&self) -> Propagation {
        Propagation {
            n_last_frames: self.n_last_frames,
            neighbourhood: self.size_mask_neighborhood,
            top_k: self.topk,
            temperature: self.temperature,
        }
    }

    /// The protocol in words, for frames of `size` and features of a block.
    fn facts(&self, size: FrameSize, layer: usize, norm: bool) -> Facts {
        let short_side = match size {
            FrameSize::ShortSide(pixels) => Some(pixels),
            FrameSize::Native => None,
        };
        facts(json!({
            "short_side": short_side,
            "layer": layer,
            "norm": norm,
            "n_last_frames": self.n_last_frames,
            "size_mask_neighborhood": self.size_mask_neighborhood,
            "topk": self.topk,
            // Of f32; as f64 it would read 0.10000000149.
            "temperature": self.temperature.to_string().parse::<f64>().ok(),
            "precision": self.precision,
            "objects": self.objects().name(),
        }))
    }

    fn videos(&self) -> Result<Videos> {
        let size = self.scale_size.map(FrameSize::ShortSide);
        let Some(root) = &self.data_path else {
            if !self.sequences.is_empty() {
                bail!("--sequences: needs --data-path");
            }
            let size = size.map_or(Size::Grid(self.grid.map_or(synthetic::GRID, |n| n as usize)), Size::Fixed);
            return Ok(Videos { source: Box::new(synthetic::videos()), facts: synthetic::facts(size), size });
        };
        let folder = DavisFolder::open(root, &self.year, &self.split, &self.resolution)?;
        let folder = if self.sequences.is_empty() { folder } else { folder.with_sequences(&self.sequences)? };
        let known = facts(json!({
            "source": root.display().to_string(),
            "year": self.year,
            "split": self.split,
            "resolution": self.resolution,
            "sequences": folder.sequences().len(),
        }));
        Ok(Videos { source: Box::new(folder), facts: known, size: Size::Fixed(size.unwrap_or_default()) })
    }
}
