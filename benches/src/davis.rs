//! Label propagation through a video, beside DINO's protocol in PyTorch.

use crate::bounds::whole;
use crate::machine::{cores, median, peak_memory, set_threads};
use crate::peer::peer;
use anyhow::{Context, Result, bail};
use selfpatch_datasets::{DavisFolder, Mask, Rgb, VideoSource, write_mask};
use selfpatch_eval::candle_core::Device;
use selfpatch_eval::{
    DenseFeatures, Error, Features, FrameSize, Propagation, Propagator, Protocol, VitFeatures, evaluate,
};
use selfpatch_vit::Vit;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Instant;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// A ViT with class token and final norm, under DINO's and timm's names
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// A folder in DAVIS's layout
    #[arg(long, value_name = "DIR")]
    data_path: PathBuf,
    /// One of its sequences [default: the first]
    #[arg(long)]
    sequence: Option<String>,
    /// Frames of it
    #[arg(long, default_value_t = 16, value_parser = whole(2, 100000))]
    frames: usize,
    /// Attention heads
    #[arg(long, default_value_t = 6, value_parser = whole(1, 1024))]
    heads: usize,
    /// Threads to compute with
    #[arg(long, default_value_t = cores(), value_parser = whole(1, 1024))]
    threads: usize,
    /// A Python with PyTorch, OpenCV, Pillow and safetensors, measured in turn
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Pairs of runs
    #[arg(long, default_value_t = 3, value_parser = whole(1, 10000))]
    pairs: usize,
    /// Measure once, in this process, and print one line of JSON
    #[arg(long, hide = true)]
    apart: bool,
}

/// What one run reports; the peer prints the same fields.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct DavisTimes {
    /// Seconds per frame from file to written mask, over all frames but the first.
    seconds_per_frame: f64,
    /// Seconds for the tokens of a frame.
    forward: f64,
    /// Seconds for the labels of a frame from its tokens, with a full context.
    propagation: f64,
    /// Peak memory in bytes.
    peak_memory: f64,
}

pub fn run(args: &Args) -> Result<()> {
    if args.apart {
        set_threads(args.threads)?;
        say!("{}", serde_json::to_string(&measure(args)?)?);
        return Ok(());
    }
    let sequence = sequence(args)?;
    let numbers = [args.frames, args.heads, args.threads].map(|n| n.to_string());
    let arguments = [
        "--weights",
        &*args.weights.to_string_lossy(),
        "--data-path",
        &*args.data_path.to_string_lossy(),
        "--sequence",
        &sequence,
        "--frames",
        &numbers[0],
        "--heads",
        &numbers[1],
        "--threads",
        &numbers[2],
    ];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for pair in 1..=args.pairs.max(1) {
        let mut command = std::process::Command::new(std::env::current_exe()?);
        let output = command.arg("davis").args(arguments).arg("--apart").output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let a: DavisTimes = serde_json::from_slice(&output.stdout).context("the report")?;
        say!("pair {pair}: selfpatch {}", told(&a));
        ours.push(a);
        if let Some(python) = &args.python {
            let b: DavisTimes =
                serde_json::from_str(&peer(python, "davis.py", &arguments)?).context("the peer's report")?;
            say!("pair {pair}: PyTorch   {}", told(&b));
            theirs.push(b);
        }
    }
    if !theirs.is_empty() {
        let ratio = |of: fn(&DavisTimes) -> f64| median(ours.iter().zip(&theirs).map(|(a, b)| of(b) / of(a)).collect());
        say!(
            "medians of pairwise ratios: end to end {:.2}, forward {:.2}, propagation {:.1}; memory {:.2} of PyTorch's",
            ratio(|r| r.seconds_per_frame),
            ratio(|r| r.forward),
            ratio(|r| r.propagation),
            1. / ratio(|r| r.peak_memory)
        );
    }
    Ok(())
}

fn told(r: &DavisTimes) -> String {
    let [whole, forward, votes] = [r.seconds_per_frame, r.forward, r.propagation].map(|s| s * 1e3);
    format!("{whole:.0} ms per frame: forward {forward:.0}, propagation {votes:.0}; {:.2} GB", r.peak_memory / 1e9)
}

fn sequence(args: &Args) -> Result<String> {
    let folder = DavisFolder::open(&args.data_path, "2017", "val", "480p")?;
    let first = || folder.sequences().into_iter().next().context("there is no sequence");
    args.sequence.clone().map_or_else(first, Ok)
}

/// The first frames of one video.
struct Beginning<'a> {
    videos: &'a DavisFolder,
    sequence: String,
    frames: usize,
}

type Data<T> = Result<T, selfpatch_datasets::Error>;

impl VideoSource for Beginning<'_> {
    fn sequences(&self) -> Vec<String> {
        vec![self.sequence.clone()]
    }
    fn frames(&self, sequence: &str) -> Data<usize> {
        Ok(self.videos.frames(sequence)?.min(self.frames))
    }
    fn frame(&self, sequence: &str, index: usize) -> Data<Rgb> {
        self.videos.frame(sequence, index)
    }
    fn mask(&self, sequence: &str, index: usize) -> Data<Option<Mask>> {
        // Of later ones nothing is scored here.
        if index == 0 { self.videos.mask(sequence, 0) } else { Ok(None) }
    }
}

/// A model that writes down how long it takes and what it gave.
struct Timed {
    model: VitFeatures,
    seconds: RefCell<Vec<f64>>,
    tokens: RefCell<Vec<Features>>,
}

impl DenseFeatures for Timed {
    fn patch(&self) -> usize {
        self.model.patch()
    }
    fn features(&self, pixels: &[f32], height: usize, width: usize) -> Result<Features, Error> {
        let start = Instant::now();
        let features = self.model.features(pixels, height, width)?;
        self.seconds.borrow_mut().push(start.elapsed().as_secs_f64());
        self.tokens.borrow_mut().push(features.clone());
        Ok(features)
    }
}

fn measure(args: &Args) -> Result<DavisTimes> {
    let folder = DavisFolder::open(&args.data_path, "2017", "val", "480p")?;
    let videos = Beginning { videos: &folder, sequence: sequence(args)?, frames: args.frames };
    let vit = Vit::load(&args.weights, None, args.heads, &Device::Cpu)?;
    let model =
        Timed { model: VitFeatures::new(vit, Device::Cpu), seconds: RefCell::default(), tokens: RefCell::default() };
    let work = std::env::temp_dir().join(format!("selfpatch-bench-davis-{}", std::process::id()));
    std::fs::create_dir_all(&work)?;
    let protocol = Protocol { size: FrameSize::default(), all_masks: true, ..Protocol::default() };
    let mut begun = Instant::now();
    let outcome = evaluate(&videos, &model, &protocol, &mut |done| match done.mask {
        Some(mask) if done.frame > 0 => Ok(write_mask(work.join(format!("{}.png", done.frame)), mask)?),
        _ => {
            begun = Instant::now();
            Ok(())
        }
    });
    let whole = begun.elapsed().as_secs_f64();
    std::fs::remove_dir_all(&work)?;
    if let Some((_, e)) = outcome?.failures.into_iter().next() {
        bail!(e);
    }
    let peak = peak_memory().unwrap_or(0) as f64;
    let frames = model.tokens.into_inner();
    let (settings, grid) = (Propagation::default(), (frames[0].grid_h, frames[0].grid_w));
    let mask: Vec<f32> =
        (0..2 * grid.0 * grid.1).map(|i| f32::from(u8::from(i / (grid.0 * grid.1) == i % 2))).collect();
    let mut labels = Propagator::new(&settings, grid.0, grid.1, &frames[0].tokens, &mask)?;
    let mut votes = Vec::new();
    for frame in &frames[1..] {
        let start = Instant::now();
        labels.step(&frame.tokens)?;
        votes.push(start.elapsed().as_secs_f64());
    }
    let full = settings.n_last_frames.min(votes.len() - 1);
    Ok(DavisTimes {
        seconds_per_frame: whole / (frames.len() - 1) as f64,
        forward: median(model.seconds.into_inner().split_off(1)),
        propagation: median(votes.split_off(full)),
        peak_memory: peak,
    })
}
