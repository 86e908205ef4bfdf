//! `selfpatch train`.

use crate::continuing::{Chosen, Flag, chosen, given, typed};
use crate::device::Compute;
use crate::eval_davis::{Size, synthetic};
use crate::eval_knn::{self, Outcome, Sight, classified};
use crate::interrupt;
use crate::model;
use crate::progress::Show;
use crate::recipe::Recipe;
use crate::signals;
use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{Device, Tensor};
use selfpatch_datasets::{Access, DavisFolder, VideoSource};
use selfpatch_eval::images::Centre;
use selfpatch_eval::{FrameSize, Propagation, Protocol, VitFeatures, evaluate};
use selfpatch_output::ended;
use selfpatch_train::{Asked, Config, End, Error, Measure, Network, Session, run as train};
use selfpatch_vit::Vit;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use toml::Value;

/// Flags of DINO (with hyphens or underscores) and of SelfPatch; each overwrites one field of the
/// configuration.
#[derive(clap::Args)]
#[command(allow_negative_numbers = true)]
pub struct Args {
    #[command(flatten)]
    recipe: Recipe,
    /// Name of the run [default: the name of the data]; its folder is runs/NAME; alone it continues that run
    #[arg(long)]
    name: Option<String>,
    /// Folder of the run
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Discard an earlier run in that folder
    #[arg(long)]
    overwrite: bool,
    /// Where to go on: auto (the newest whole checkpoint of the run), never, or the folder of a checkpoint or run,
    /// which alone continues it
    #[arg(long, value_name = "auto|never|PATH", default_value = "auto")]
    resume: PathBuf,
    /// A field that may differ from the checkpoint's, such as optim.lr; once is enough
    #[arg(long = "override", value_name = "FIELD")]
    overrides: Vec<String>,
    /// Begin a new run with the weights of a backbone, a training checkpoint (.pth) or a run
    #[arg(long, value_name = "PATH")]
    init_from: Option<PathBuf>,
    /// Greatest part of the images that may be broken before the run stops
    #[arg(long, value_name = "PART")]
    max_bad: Option<f64>,
    /// vit_tiny, vit_small, vit_base or custom
    #[arg(long)]
    arch: Option<String>,
    /// Side of a patch in pixels
    #[arg(long)]
    patch_size: Option<u32>,
    /// Stochastic depth of the student
    #[arg(long)]
    drop_path_rate: Option<f64>,
    /// Class prototypes
    #[arg(long)]
    out_dim: Option<u32>,
    /// Patch prototypes
    #[arg(long)]
    out_dim_selfpatch: Option<u32>,
    /// Freeze the gain of the prototypes
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    norm_last_layer: Option<bool>,
    /// Batch norm in the heads
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    use_bn_in_head: Option<bool>,
    /// Weight of the patch loss; 0 trains DINO with SelfPatch's class-attention module and no patch loss
    #[arg(long)]
    lambda: Option<f64>,
    /// Positives per patch
    #[arg(long)]
    k_num: Option<u32>,
    /// Side of the neighbourhood in patches, odd
    #[arg(long)]
    window: Option<u32>,
    /// torus (reference) or clipped
    #[arg(long)]
    border: Option<String>,
    /// Choose the most similar neighbours; false: take all
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    matching: Option<bool>,
    /// class-attention, mean or none
    #[arg(long)]
    aggregation: Option<String>,
    /// Class-attention blocks
    #[arg(long)]
    aggregation_depth: Option<u32>,
    /// Temperature of the teacher at the start
    #[arg(long)]
    warmup_teacher_temp: Option<f64>,
    /// Temperature of the teacher
    #[arg(long)]
    teacher_temp: Option<f64>,
    /// Epochs of the temperature's warm-up
    #[arg(long)]
    warmup_teacher_temp_epochs: Option<u32>,
    /// Images per step
    #[arg(long, alias = "batch-size-per-gpu")]
    batch_size: Option<u32>,
    /// Take the images of a step in this many parts, to save memory; the result stays the same
    #[arg(long, value_name = "PARTS")]
    accumulate: Option<u32>,
    /// Compute activations twice instead of keeping them: less memory, more time, the same result
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    recompute: Option<bool>,
    /// What layers and heads compute in: f32, bf16, or fp16 with a scaled loss
    #[arg(long)]
    precision: Option<String>,
    /// The published program's flag: fp16, or f32
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, conflicts_with = "precision")]
    use_fp16: Option<bool>,
    /// Passes over the data
    #[arg(long)]
    epochs: Option<u32>,
    /// Stop after this many steps, the schedules unchanged
    #[arg(long)]
    max_steps: Option<u32>,
    /// adamw, sgd or lars
    #[arg(long)]
    optimizer: Option<String>,
    /// Learning rate for 256 images per step
    #[arg(long)]
    lr: Option<f64>,
    /// Learning rate at the end
    #[arg(long)]
    min_lr: Option<f64>,
    /// Epochs of linear warm-up
    #[arg(long)]
    warmup_epochs: Option<f64>,
    /// Weight decay at the start
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Weight decay at the end
    #[arg(long)]
    weight_decay_end: Option<f64>,
    /// Largest norm of a gradient tensor; 0 for none
    #[arg(long)]
    clip_grad: Option<f64>,
    /// Epochs during which the prototypes stay as they are
    #[arg(long)]
    freeze_last_layer: Option<u32>,
    /// Momentum of the teacher at the start
    #[arg(long)]
    momentum_teacher: Option<f64>,
    /// Area of the global crops
    #[arg(long, num_args = 2, value_names = ["MIN", "MAX"])]
    global_crops_scale: Option<Vec<f64>>,
    /// Area of the local crops
    #[arg(long, num_args = 2, value_names = ["MIN", "MAX"])]
    local_crops_scale: Option<Vec<f64>>,
    /// Number of local crops
    #[arg(long)]
    local_crops_number: Option<u32>,
    /// Side of the global crops in pixels
    #[arg(long)]
    global_crops_size: Option<u32>,
    /// Side of the local crops in pixels
    #[arg(long)]
    local_crops_size: Option<u32>,
    /// Seed of everything random
    #[arg(long, value_parser = clap::value_parser!(i64).range(0..))]
    seed: Option<i64>,
    /// Threads that load and augment
    #[arg(long)]
    num_workers: Option<u32>,
    /// Epochs between checkpoints
    #[arg(long)]
    saveckp_freq: Option<u32>,
    /// Print the resolved configuration and stop
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    compute: Compute,
}

/// Trains, or continues, and says where the results are.
pub fn run(args: &Args) -> Result<ExitCode> {
    let asked = args.asked();
    let Chosen { config, resume, preset, notes } = args.chosen(&asked)?;
    notes.iter().for_each(|note| note!("note: {note}"));
    let usual = preset.map(|preset| preset.config().optim.warmup_epochs);
    if usual.is_some_and(|usual| usual != config.optim.warmup_epochs) && args.warmup_epochs.is_none() {
        note!("note: {} epochs of warm-up, a run of {}", config.optim.warmup_epochs, config.optim.epochs);
    }
    if args.print_config {
        say!("{}", config.to_toml()?.trim_end());
        return Ok(ended(ExitCode::SUCCESS));
    }
    let stop = signals::stop().context("signal handlers")?;
    interrupt::remember().context("signal handlers")?;
    let device = args.compute.device()?;
    let show = RefCell::new(Show::new());
    let say = |text: &str| show.borrow().say(text);
    let (mut davis, mut knn) = (davis(&config, &device)?, knn(&config, &device, &say, &stop)?);
    let mut judge = |what: Measure, teacher: &Network| match what {
        Measure::Davis => davis(&teacher.backbone),
        Measure::Knn => knn(teacher),
    };
    let session = Session { overwrite: args.overwrite, resume, overrides: &args.overrides, asked: &asked, stop: &stop };
    let summary = train(&config, &session, &device, &mut judge, |event| show.borrow_mut().event(event));
    let summary = summary.map_err(advised)?;
    let show = show.borrow();
    show.finish();
    if let End::Stopped(step) = summary.end {
        let without = if args.overwrite { " without --overwrite" } else { "" };
        show.line(&format!("stopped and saved after step {step}"));
        show.line(&format!("the same command{without} continues"));
        return Ok(ExitCode::from(signals::STOPPED));
    }
    if summary.end == End::WasComplete {
        show.line(&format!("{} is complete", summary.folder.display()));
        show.line("use --name or --output-dir for another run, --overwrite to repeat it");
    }
    show.line(&format!("backbone: {}", summary.backbone.display()));
    show.line(&format!("report:   {}", summary.folder.join("report.html").display()));
    show.line(&format!("evaluate: cargo xtask eval-davis --run {}", summary.folder.display()));
    Ok(ExitCode::SUCCESS)
}

/// What is asked about a teacher.
type Measured = std::result::Result<f64, String>;

/// An error, or what to do about it where the memory of a GPU is full.
fn advised(e: selfpatch_train::Error) -> anyhow::Error {
    let text = e.to_string();
    match ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"].iter().any(|name| text.contains(name)) {
        true => anyhow!(
            "--device: the memory of the GPU is full; --precision bf16, --accumulate, --recompute or a smaller \
             --batch-size need less"
        ),
        false => e.into(),
    }
}

/// Measures a teacher as `eval.davis` says. The videos are opened before training begins, so that what is
/// wrong with them shows at once.
fn davis(config: &Config, device: &Device) -> Result<impl FnMut(&Vit) -> Measured + use<>> {
    let d = &config.eval.davis;
    let (videos, size): (Box<dyn VideoSource>, _) = match d.data_path.as_str() {
        _ if d.every == 0 => (Box::new(synthetic::videos()), Size::Grid(d.grid)), // never asked
        "procedural" => (Box::new(synthetic::videos()), Size::Grid(d.grid)),
        path => {
            let folder = DavisFolder::open(path, &d.year, &d.split, &d.resolution).context("eval.davis.data_path")?;
            (Box::new(folder), Size::Fixed(FrameSize::default()))
        }
    };
    let size = size.of(config.model.patch_size);
    let propagation = Propagation {
        n_last_frames: d.n_last_frames,
        neighbourhood: d.size_mask_neighborhood,
        top_k: d.topk,
        ..Propagation::default()
    };
    let (protocol, device) = (Protocol { propagation, size, ..Protocol::default() }, device.clone());
    let seen = model::seen(config);
    Ok(move |teacher: &Vit| {
        let model = VitFeatures::new(teacher.clone().with_stated(seen.clone()), device.clone());
        let evaluation = evaluate(&*videos, &model, &protocol, &mut |_| Ok(())).map_err(|e| e.to_string())?;
        match evaluation.failures.first() {
            Some((_, e)) => Err(e.to_string()),
            None => Ok(evaluation.report.global.jf),
        }
    })
}

/// Measures a teacher as `eval.knn` says. The sources are opened before training begins; images that cannot be
/// read are named once, and more of them than `data.max_bad` allows are a reason not to measure.
fn knn<'a>(
    config: &'a Config,
    device: &'a Device,
    say: &'a dyn Fn(&str),
    stop: &AtomicBool,
) -> Result<impl FnMut(&Network) -> Measured + use<'a>> {
    let d = &config.eval.knn;
    let (video_fps, video_dedup) = (config.data.video_fps.per_second(), config.data.video_dedup);
    let is_over = || stop.load(Ordering::Relaxed);
    let access = Access { video_fps, video_dedup, say, stop: &is_over, ..Access::usual() };
    let open = || eval_knn::open("eval.knn.train", &d.train, "eval.knn.val", &d.val, d.most, &access);
    let sets = (d.every > 0).then(open).transpose()?;
    if let Some((train, _)) = &sets {
        let n = train.places.len();
        ensure!(d.k <= n, "eval.knn.k: {} neighbours cannot be chosen from {n} images of eval.knn.train", d.k);
    }
    let sight = Sight {
        centre: Centre::new(config.data.decoding(), config.model.image_size),
        mean: config.data.mean.clone(),
        std: config.data.std.clone(),
        device: device.clone(),
    };
    let mut told = BTreeSet::new();
    Ok(move |teacher: &Network| {
        let Some(sets) = &sets else { return Err("eval.knn.every is 0".into()) };
        let features = |images: &Tensor| teacher.image_features(images);
        let outcome = classified(sets, &sight, &[d.k], d.temperature, &features, &mut |_| ());
        let Outcome { scores, skipped, left_out } = outcome.map_err(|e| e.to_string())?;
        for (_, line) in left_out.lines().into_iter().filter(|(_, line)| told.insert(line.clone())) {
            say(&format!("eval.knn: {line}"));
        }
        for (name, reason) in skipped.iter().filter(|(name, _)| told.insert(name.clone())) {
            say(&format!("skipped {name}: {reason}"));
        }
        let all = sets.0.places.len() + sets.1.places.len();
        if skipped.len() as f64 > config.data.max_bad * all as f64 {
            return Err(format!("{} of {all} images cannot be used, more than data.max_bad allows", skipped.len()));
        }
        scores.first().map(|s| s.top1).ok_or_else(|| "no scores".into())
    })
}

impl Args {
    /// The run that is meant, with all settings checked; what is wrong with one names the flag that it was given by.
    pub fn chosen(&self, asked: &[Asked]) -> Result<Chosen> {
        let flags = self.flags().into_iter().map(|flag| (flag.place.to_string(), flag.value)).collect();
        let mut chosen = chosen(&self.recipe.layers(flags)?, &self.resume, self.overwrite)?;
        for view in &mut chosen.config.crops.globals {
            if let Some(size) = self.global_crops_size {
                view.size = size as usize;
            }
            if let Some([least, most]) = self.global_crops_scale.as_deref() {
                view.scale = [*least as f32, *most as f32];
            }
        }
        chosen.config.check().map_err(|e| match &e {
            Error::Config { field, reason } => match asked.iter().rev().find(|asked| asked.field == *field) {
                Some(Asked { flag, .. }) => anyhow!("{flag} ({field}): {reason}"),
                None => e.into(),
            },
            _ => e.into(),
        })?;
        Ok(chosen)
    }

    /// The flags that set fields, as they were typed.
    fn asked(&self) -> Vec<Asked> {
        let arguments: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
        let data = self.recipe.data.clone().map(Value::String);
        let mut flags = given([(&["data", "data-path"], "data.path", data)]);
        flags.extend(self.flags());
        flags.extend(self.view_flags());
        typed(&flags, &arguments)
    }

    /// The flags that set fields of the configuration.
    fn flags(&self) -> Vec<Flag> {
        let int = |v: u32| Value::Integer(v.into());
        let text = |v: &String| Value::String(v.clone());
        let path = |v: &PathBuf| Value::String(v.to_string_lossy().into_owned());
        let half = self.use_fp16.map(|half| if half { "fp16" } else { "f32" }.to_string());
        let pair = |v: &Vec<f64>| Value::Array(v.iter().map(|&x| Value::Float(x)).collect());
        given([
            (&["name"], "name", self.name.as_ref().map(text)),
            // A name of its own moves the run to a folder of its own, whatever a file says.
            (
                &["output-dir"],
                "output_dir",
                self.output_dir.as_ref().map(path).or(self.name.as_ref().map(|_| Value::String(String::new()))),
            ),
            (&["init-from"], "init_from", self.init_from.as_ref().map(path)),
            (&["seed"], "seed", self.seed.map(Value::Integer)),
            (&["max-bad"], "data.max_bad", self.max_bad.map(Value::Float)),
            (&["num-workers"], "data.workers", self.num_workers.map(int)),
            (&["arch"], "model.arch", self.arch.as_ref().map(text)),
            (&["patch-size"], "model.patch_size", self.patch_size.map(int)),
            (&["drop-path-rate"], "model.drop_path_rate", self.drop_path_rate.map(Value::Float)),
            (&["out-dim"], "head.out_dim", self.out_dim.map(int)),
            (&["out-dim-selfpatch"], "head.out_dim_selfpatch", self.out_dim_selfpatch.map(int)),
            (&["norm-last-layer"], "head.norm_last_layer", self.norm_last_layer.map(Value::Boolean)),
            (&["use-bn-in-head"], "head.use_bn_in_head", self.use_bn_in_head.map(Value::Boolean)),
            (&["lambda"], "patch_loss.lambda", self.lambda.map(Value::Float)),
            (&["k-num"], "patch_loss.k_num", self.k_num.map(int)),
            (&["window"], "patch_loss.window", self.window.map(int)),
            (&["border"], "patch_loss.border", self.border.as_ref().map(text)),
            (&["matching"], "patch_loss.matching", self.matching.map(Value::Boolean)),
            (&["aggregation"], "patch_loss.aggregation", self.aggregation.as_ref().map(text)),
            (&["aggregation-depth"], "patch_loss.aggregation_depth", self.aggregation_depth.map(int)),
            (&["warmup-teacher-temp"], "image_loss.warmup_teacher_temp", self.warmup_teacher_temp.map(Value::Float)),
            (&["teacher-temp"], "image_loss.teacher_temp", self.teacher_temp.map(Value::Float)),
            (
                &["warmup-teacher-temp-epochs"],
                "image_loss.warmup_teacher_temp_epochs",
                self.warmup_teacher_temp_epochs.map(int),
            ),
            (&["batch-size", "batch-size-per-gpu"], "optim.batch_size", self.batch_size.map(int)),
            (&["accumulate"], "optim.accumulate", self.accumulate.map(int)),
            (&["recompute"], "optim.recompute", self.recompute.map(Value::Boolean)),
            (&["precision", "use-fp16"], "optim.precision", self.precision.clone().or(half).map(Value::String)),
            (&["epochs"], "optim.epochs", self.epochs.map(int)),
            (&["max-steps"], "optim.max_steps", self.max_steps.map(int)),
            (&["optimizer"], "optim.optimizer", self.optimizer.as_ref().map(text)),
            (&["lr"], "optim.lr", self.lr.map(Value::Float)),
            (&["min-lr"], "optim.min_lr", self.min_lr.map(Value::Float)),
            (&["warmup-epochs"], "optim.warmup_epochs", self.warmup_epochs.map(Value::Float)),
            (&["weight-decay"], "optim.weight_decay", self.weight_decay.map(Value::Float)),
            (&["weight-decay-end"], "optim.weight_decay_end", self.weight_decay_end.map(Value::Float)),
            (&["clip-grad"], "optim.clip_grad", self.clip_grad.map(Value::Float)),
            (&["freeze-last-layer"], "optim.freeze_last_layer", self.freeze_last_layer.map(int)),
            (&["momentum-teacher"], "optim.momentum_teacher", self.momentum_teacher.map(Value::Float)),
            (&["saveckp-freq"], "checkpoint.every_epochs", self.saveckp_freq.map(int)),
            (&["local-crops-number"], "crops.local_count", self.local_crops_number.map(int)),
            (&["local-crops-size"], "crops.locals.size", self.local_crops_size.map(int)),
            (&["local-crops-scale"], "crops.locals.scale", self.local_crops_scale.as_ref().map(pair)),
        ])
    }

    /// The flags of the global views, which are no fields of their own.
    fn view_flags(&self) -> Vec<Flag> {
        let pair = |v: &Vec<f64>| Value::Array(v.iter().map(|&x| Value::Float(x)).collect());
        given([
            (&["global-crops-size"], "crops.globals.size", self.global_crops_size.map(|v| Value::Integer(v.into()))),
            (&["global-crops-scale"], "crops.globals.scale", self.global_crops_scale.as_ref().map(pair)),
        ])
    }
}
