//! One whole training step: teacher, student, both losses, gradients, clipping, AdamW, average; no
//! loading or augmentation of images.

use crate::bounds::whole;
use crate::machine;
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use selfpatch_losses::At;
use selfpatch_train::config::{DinoObjective, ImageObjective};
use selfpatch_train::{Config, Hyper, Memory, Preset, Settings, Trainer, work};
use serde::{Deserialize, Serialize};
use std::time::Instant;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    pub shape: Shape,
    /// Steps that are timed
    #[arg(long, default_value_t = 5, value_parser = whole(1, 1000000))]
    pub steps: usize,
    /// Steps before them
    #[arg(long, default_value_t = 1, value_parser = whole(0, 1000000))]
    pub warmup: usize,
    /// Parts in which the images of a step are taken
    #[arg(long, default_value_t = 1, value_parser = whole(1, 65536))]
    pub accumulate: usize,
    /// Compute activations twice instead of keeping them
    #[arg(long)]
    pub recompute: bool,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// What is computed, under the flags of the PyTorch peer.
#[derive(clap::Args, Clone, Debug)]
pub struct Shape {
    /// `vit_tiny`, `vit_small` or `vit_base`
    #[arg(long, default_value = "vit_tiny")]
    pub arch: String,
    /// Images per step
    #[arg(long, default_value_t = 4, value_parser = whole(1, 65536))]
    pub batch: usize,
    /// Threads [default: one per core]
    #[arg(long, value_parser = whole(1, 1024))]
    pub threads: Option<usize>,
    /// Local crops of 96 pixels per image, beside 2 of 224
    #[arg(long, default_value_t = 8, value_parser = whole(0, 256))]
    pub local: usize,
    /// Side of a patch in pixels
    #[arg(long, default_value_t = 16, value_parser = whole(1, 1024))]
    pub patch_size: usize,
    /// Class prototypes
    #[arg(long, default_value_t = 65536, value_parser = whole(1, 4194304))]
    pub out_dim: usize,
    /// Patch prototypes
    #[arg(long, default_value_t = 4096, value_parser = whole(1, 4194304))]
    pub out_dim_selfpatch: usize,
    /// Positives per patch
    #[arg(long, default_value_t = 4, value_parser = whole(1, 65536))]
    pub k_num: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            arch: "vit_tiny".into(),
            batch: 4,
            threads: None,
            local: 8,
            patch_size: 16,
            out_dim: 65536,
            out_dim_selfpatch: 4096,
            k_num: 4,
        }
    }
}

/// The published start, without its warm-up, and past the epoch in which prototypes are frozen.
pub const HYPER: Hyper =
    Hyper { lr: 1e-4, weight_decay: 0.04, momentum: 0.996, patch_teacher_temp: 0.04, at: At { step: 0, epoch: 9 } };

/// Random crops of one batch.
pub fn crops(config: &Config) -> candle_core::Result<Vec<Tensor>> {
    let random = |(count, size)| Tensor::randn(0f32, 1f32, (count, 3, size, size), &Device::Cpu);
    work::crops(config).into_iter().map(random).collect()
}

impl Shape {
    /// The published recipe with these sizes.
    pub fn config(&self) -> Config {
        let mut config = Preset::Paper.config();
        config.model.arch = self.arch.clone();
        config.model.patch_size = self.patch_size;
        config.optim.batch_size = self.batch;
        config.crops.local_count = self.local;
        config.head.out_dim = self.out_dim;
        config.head.out_dim_selfpatch = self.out_dim_selfpatch;
        config.patch_loss.k_num = self.k_num;
        // One temperature in all epochs, as the peer in PyTorch has it.
        config.objective = ImageObjective::Dino(DinoObjective::default());
        config
    }

    /// The sizes as arguments of the command line.
    pub fn arguments(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut push = |flag: &str, value: &dyn ToString| all.extend([flag.to_string(), value.to_string()]);
        push("--arch", &self.arch);
        push("--batch", &self.batch);
        push("--threads", &self.threads.unwrap_or_else(machine::cores));
        push("--local", &self.local);
        push("--patch-size", &self.patch_size);
        push("--out-dim", &self.out_dim);
        push("--out-dim-selfpatch", &self.out_dim_selfpatch);
        push("--k-num", &self.k_num);
        all
    }
}

/// One line of `--json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepTimes {
    pub arch: String,
    /// `selfpatch` or `pytorch`.
    pub mode: String,
    pub batch: usize,
    pub crops: String,
    pub out_dim: usize,
    pub out_dim_selfpatch: usize,
    pub threads: usize,
    pub device: String,
    /// Version of PyTorch, where that is what ran.
    pub torch: Option<String>,
    pub steps: usize,
    pub seconds_per_step_median: f64,
    pub seconds_per_step_min: f64,
    pub images_per_second: f64,
    /// Total loss of the last step.
    pub loss: f64,
    pub peak_memory_bytes: Option<u64>,
    /// Bytes as [`Memory`] estimates them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_memory_bytes: Option<u64>,
    /// FLOPs of a step, see [`work::flops`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops: Option<f64>,
    /// `flops` over the median time, in 10^9 per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gflops_per_second: Option<f64>,
    /// Best rate of a plain matrix product in the same process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gemm_peak_gflops_per_second: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction_of_gemm_peak: Option<f64>,
}

pub fn run(args: &Args) -> Result<()> {
    let report = measure(args)?;
    if args.json {
        say!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    say!(
        "{}, {} images, {} crops, heads {}/{}, {} threads",
        report.arch,
        report.batch,
        report.crops,
        report.out_dim,
        report.out_dim_selfpatch,
        report.threads
    );
    say!(
        "median {:.3} s per step, best {:.3} s, of {} steps: {:.2} images/s",
        report.seconds_per_step_median,
        report.seconds_per_step_min,
        report.steps,
        report.images_per_second
    );
    if let (Some(flops), Some(rate), Some(peak), Some(fraction)) =
        (report.flops, report.gflops_per_second, report.gemm_peak_gflops_per_second, report.fraction_of_gemm_peak)
    {
        let percent = 100. * fraction;
        say!("{:.0} GFLOP: {rate:.0} GF/s, {percent:.0} % of the GEMM peak of {peak:.0} GF/s", flops / 1e9);
    }
    if let (Some(bytes), Some(estimate)) = (report.peak_memory_bytes, report.estimated_memory_bytes) {
        say!("peak memory {:.2} GB, of which {:.2} GB as estimated", bytes as f64 / 1e9, estimate as f64 / 1e9);
    }
    Ok(())
}

fn measure(args: &Args) -> Result<StepTimes> {
    let shape = &args.shape;
    let threads = shape.threads.unwrap_or_else(machine::cores);
    if threads == 0 || shape.batch == 0 || args.steps == 0 {
        bail!("--threads, --batch and --steps must be at least 1")
    }
    machine::set_threads(threads)?;
    let mut config = shape.config();
    (config.optim.accumulate, config.optim.recompute) = (args.accumulate, args.recompute);
    Memory::admit(&config, 0)?;
    let settings = Settings::of(&config).context("these sizes make no network")?;
    let flops = work::flops(&config, &settings.network.vit);
    let crops = crops(&config)?;
    let mut trainer = Trainer::new(settings, DType::F32, &Device::Cpu)?;
    let parameters = trainer.student_params.iter().map(|(_, v)| v.elem_count()).sum();
    let estimated_memory_bytes = Some(Memory::of(&config, parameters)?.total());
    let mut took = Vec::with_capacity(args.steps);
    let mut loss = 0.;
    for step in 0..args.warmup + args.steps {
        let start = Instant::now();
        loss = trainer.step(&crops, shape.batch, step, &HYPER)?.losses[0];
        if step >= args.warmup {
            took.push(start.elapsed().as_secs_f64());
        }
    }
    let report = StepTimes::of(shape, threads, took, loss);
    drop((trainer, crops));
    let peak = machine::gemm_peak();
    let rate = flops / report.seconds_per_step_median;
    Ok(StepTimes {
        estimated_memory_bytes,
        flops: Some(flops),
        gflops_per_second: Some(rate / 1e9),
        gemm_peak_gflops_per_second: Some(peak / 1e9),
        fraction_of_gemm_peak: Some(rate / peak),
        ..report
    })
}

impl StepTimes {
    /// Times of any measurement: `took` are the seconds of the timed steps, at least one.
    pub fn of(shape: &Shape, threads: usize, took: Vec<f64>, loss: f64) -> Self {
        let steps = took.len();
        let best = took.iter().copied().fold(f64::INFINITY, f64::min);
        let median = machine::median(took);
        Self {
            arch: shape.arch.clone(),
            mode: "selfpatch".into(),
            batch: shape.batch,
            crops: format!("2+{}", shape.local),
            out_dim: shape.out_dim,
            out_dim_selfpatch: shape.out_dim_selfpatch,
            threads,
            device: "cpu".into(),
            torch: None,
            steps,
            seconds_per_step_median: median,
            seconds_per_step_min: best,
            images_per_second: shape.batch as f64 / median,
            loss,
            peak_memory_bytes: machine::peak_memory(),
            estimated_memory_bytes: None,
            flops: None,
            gflops_per_second: None,
            gemm_peak_gflops_per_second: None,
            fraction_of_gemm_peak: None,
        }
    }
}
