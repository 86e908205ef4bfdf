//! What an evaluation of images is about: a model, and how it is shown images.

use crate::about;
use crate::hub;
use crate::model::{self, WeightFile};
use anyhow::{Result, anyhow, bail};
use candle_core::{Device, Tensor};
use selfpatch_datasets::Samples;
use selfpatch_eval::Facts;
use selfpatch_eval::images::{BATCH, Centre};
use selfpatch_model::Encoder;
use selfpatch_nn::room;
use selfpatch_train::normalized;
use std::path::{Path, PathBuf};

/// What a model's architecture without training is called.
pub const RANDOM: &str = "random initialisation";

/// Flags that say what is evaluated.
#[derive(clap::Args)]
pub struct Args {
    /// The run whose teacher is evaluated [default: the newest in ./runs]
    #[arg(long, value_name = "DIR", conflicts_with = "weights")]
    run: Option<PathBuf>,
    #[command(flatten)]
    pub file: WeightFile,
    /// Side of the square that the model sees [default: as the run or the file states; else 224, or the side of its
    /// position table if that is less]
    #[arg(long, value_name = "PIXELS", value_parser = crate::bounds::integer(1, 4096))]
    image_size: Option<usize>,
}

/// How a model is shown images.
pub struct Sight {
    /// The part of an image that the model sees.
    pub centre: Centre,
    /// Mean per channel.
    pub mean: Vec<f32>,
    /// Standard deviation per channel.
    pub std: Vec<f32>,
    /// Device of the model.
    pub device: Device,
}

impl Sight {
    /// Normalised pixels `[B, C, S, S]` of squares, each one `[C, S, S]` or several.
    pub fn pixels(&self, squares: &[Samples]) -> candle_core::Result<Tensor> {
        let shape = (self.mean.len(), self.centre.size);
        let one = |square| normalized(square, shape, (&self.mean, &self.std), &self.device);
        Tensor::cat(&squares.iter().map(one).collect::<candle_core::Result<Vec<_>>>()?, 0)
    }
}

/// What is evaluated.
pub struct Subject {
    /// What the subject is called.
    pub what: &'static str,
    /// The model.
    pub encoder: Encoder,
    /// How the model is shown images.
    pub sight: Sight,
    /// Seed of the initial values that the model is compared with.
    pub seed: u64,
    /// Weights of the model, in words.
    pub weights: Facts,
    /// File of the model's backbone.
    pub path: PathBuf,
}

impl Subject {
    /// The model asked for and how it sees: as in the run's training, or as DINO's evaluation.
    pub fn of(asked: &Args, device: Device) -> Result<Self> {
        let (path, what, seed, encoder, shown) = match &asked.file.weights {
            Some(path) => {
                let encoder = model::encoder_of_file(&asked.file, path, &device)?;
                let shown = model::shown(&encoder.backbone)?;
                (hub::local(path)?.to_path_buf(), "weights", about::SEED, encoder, shown)
            }
            None => {
                let run = asked.run.clone().map_or_else(|| model::newest(Path::new("runs")), Ok)?;
                let config = model::config_of(&run)?;
                let encoder = model::encoder(&run, &config, &device)?;
                let (decoding, pixels, data) = (config.data.decoding(), config.model.image_size, config.data);
                let shown = model::Shown { decoding, mean: data.mean, std: data.std, pixels };
                (selfpatch_model::backbone(&run), "trained teacher", config.seed, encoder, shown)
            }
        };
        let model::Shown { decoding, mean, std, pixels } = shown;
        let of = encoder.backbone.config();
        let size = asked.image_size.unwrap_or(pixels);
        if size == 0 || !size.is_multiple_of(of.patch_size) {
            bail!("--image-size: {size} pixels cannot be cut into patches of {}", of.patch_size);
        }
        if device.is_cpu() {
            let needed = of.forward_bytes(BATCH, size, size);
            room::admit(needed, "a smaller --image-size").map_err(|reason| anyhow!("--image-size {size}: {reason}"))?;
        }
        let weights = about::weights(&path, of);
        let sight = Sight { centre: Centre::new(decoding, size), mean, std, device };
        Ok(Self { what, encoder, sight, seed, weights, path })
    }
}
