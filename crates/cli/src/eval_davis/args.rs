//! The flags of `eval-davis`.

use super::size::Size;
use super::synthetic;
use crate::bounds::{integer, real};
use crate::device::{self, Compute};
use crate::model::WeightFile;
use anyhow::{Result, bail};
use selfpatch_datasets::{DavisFolder, VideoSource};
use selfpatch_eval::{Facts, FrameSize, Objects, Propagation, facts};
use selfpatch_train::config::Precision;
use serde_json::json;
use std::path::PathBuf;

/// What is evaluated, on what, and how.
#[derive(clap::Args)]
pub struct Args {
    /// Runs to compare [default: the newest in ./runs]
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with = "weights")]
    pub run: Vec<PathBuf>,
    #[command(flatten)]
    pub file: WeightFile,
    /// A folder in the DAVIS layout [default: synthetic videos]
    #[arg(long, value_name = "DIR")]
    pub data_path: Option<PathBuf>,
    /// Tokens per side of the synthetic videos, 8 to 64 [default: 32]
    #[arg(long, value_name = "TOKENS", conflicts_with_all = ["data_path", "scale_size"],
        value_parser = clap::value_parser!(u64).range(synthetic::GRIDS))]
    pub grid: Option<u64>,
    /// ImageSets/YEAR/SPLIT.txt
    #[arg(long, default_value = "val")]
    pub split: String,
    /// ImageSets/YEAR
    #[arg(long, default_value = "2017")]
    pub year: String,
    /// JPEGImages/RESOLUTION
    #[arg(long, default_value = "480p")]
    pub resolution: String,
    /// Only these sequences
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub sequences: Vec<String>,
    /// Context frames besides the first
    #[arg(long, default_value_t = 7, value_parser = integer(0, 1000))]
    pub n_last_frames: usize,
    /// Radius of the window in patches; 0 for none
    #[arg(long, default_value_t = 12, value_parser = integer(0, 1000))]
    pub size_mask_neighborhood: usize,
    /// Neighbours that vote
    #[arg(long, default_value_t = 5, value_parser = integer(1, 10_000))]
    pub topk: usize,
    /// Divisor of the cosine in the exponent of a vote
    #[arg(long, default_value_t = 0.1, value_parser = real(0.0125f32, 1e4))]
    pub temperature: f32,
    /// Short side of the frames that the model sees, in pixels [default: 480; of synthetic videos what --grid says]
    #[arg(long, value_name = "PIXELS", value_parser = integer(1, 4096))]
    pub scale_size: Option<usize>,
    /// Block whose tokens are the features, from 1 [default: the last]
    #[arg(long, value_name = "N", value_parser = integer(1, 1024))]
    pub layer: Option<usize>,
    /// Pass the tokens through the backbone's final norm [default: if it has one]
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub norm: Option<bool>,
    /// Count the objects as the official evaluator does: all ids up to the highest of the first mask
    #[arg(long)]
    pub official: bool,
    /// Write masks, scores (CSV, JSON), overlays and report.html there; with several runs, a folder for each
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Results of earlier evaluations (their --output-dir) to show beside these in report.html
    #[arg(long, value_name = "DIR", num_args = 1.., requires = "output_dir")]
    pub compare: Vec<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// What the backbone computes in
    #[arg(long, value_parser = device::precision(), default_value = "f32")]
    pub precision: Precision,
    #[command(flatten)]
    pub compute: Compute,
}

/// The videos of an evaluation.
pub struct Videos {
    /// The videos.
    pub source: Box<dyn VideoSource>,
    /// The videos in words.
    pub facts: Facts,
    /// Size at which a model sees the frames.
    pub size: Size,
}

impl Args {
    /// Which objects count.
    pub fn objects(&self) -> Objects {
        if self.official { Objects::Official } else { Objects::Shown }
    }

    /// How masks are carried on.
    pub fn propagation(&self) -> Propagation {
        Propagation {
            n_last_frames: self.n_last_frames,
            neighbourhood: self.size_mask_neighborhood,
            top_k: self.topk,
            temperature: self.temperature,
        }
    }

    /// The protocol in words, for frames of `size` and features of a block.
    pub fn facts(&self, size: FrameSize, layer: usize, norm: bool) -> Facts {
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

    /// The videos that are asked for.
    pub fn videos(&self) -> Result<Videos> {
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
