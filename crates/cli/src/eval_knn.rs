//! `selfpatch eval-knn`: images classified by their nearest neighbours among labelled ones.

use crate::about::{self, About, Facts, facts};
use crate::bounds::{real, whole};
use crate::device::{self, Compute};
use crate::interrupt::Guard;
use crate::model::{self, WeightFile};
use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{DType, Device, Tensor};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use selfpatch_aggregation::Aggregator;
use selfpatch_datasets::{Access, Samples, Tally};
use selfpatch_eval::images::{BATCH, Centre, Labelled, embed, labelled, renumbered, split};
use selfpatch_eval::{Error, KnnScores, classify};
use selfpatch_nn::{Params, autocast, room};
use selfpatch_train::config::Precision;
use selfpatch_train::{checkpoint, normalized};
use selfpatch_vit::Vit;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// DINO's numbers of neighbours.
const USUAL: [usize; 4] = [10, 20, 100, 200];
/// What the same architecture without training is called.
const RANDOM: &str = "random initialisation";

/// What is evaluated, on what, and how.
#[derive(clap::Args)]
pub struct Args {
    /// The run whose teacher is evaluated [default: the newest in ./runs]
    #[arg(long, value_name = "DIR", conflicts_with = "weights")]
    run: Option<PathBuf>,
    #[command(flatten)]
    file: WeightFile,
    /// Labelled images that vote: a folder per class, or any other source with classes
    #[arg(long, value_name = "SOURCE", required_unless_present = "data_path")]
    train: Option<String>,
    /// Labelled images to classify [default: every fifth of --train, which then does not vote]
    #[arg(long, value_name = "SOURCE", conflicts_with = "data_path")]
    val: Option<String>,
    /// A folder with a folder train and a folder val, instead of --train and --val
    #[arg(long, value_name = "DIR", conflicts_with = "train")]
    data_path: Option<String>,
    /// Neighbours that vote, one number or several [default: those of 10 20 100 200 for which there are images]
    #[arg(long, visible_alias = "k", value_name = "K", num_args = 1.., value_parser = whole(1, 1_000_000))]
    nb_knn: Option<Vec<usize>>,
    /// Divisor of the cosine in the exponent of a vote
    #[arg(long, default_value_t = 0.07, value_parser = real(1e-4, 1e4))]
    temperature: f64,
    /// Take only so many images of each source, evenly spread [default: all]
    #[arg(long, value_name = "N", value_parser = whole(1, 1 << 40))]
    most: Option<usize>,
    /// Side of the central square that the model sees [default: as the run or the file states; else 224, or the side of
    /// its position table if that is less]
    #[arg(long, value_name = "PIXELS", value_parser = whole(1, 4096))]
    image_size: Option<usize>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// What the model computes in
    #[arg(long, value_parser = device::precision(), default_value = "f32")]
    precision: Precision,
    #[command(flatten)]
    compute: Compute,
}

/// How a model sees images.
pub struct Sight {
    /// The part of an image, in pixels.
    pub centre: Centre,
    /// Mean per channel.
    pub mean: Vec<f32>,
    /// Standard deviation per channel.
    pub std: Vec<f32>,
    /// Where the model is.
    pub device: Device,
}

/// What classifying comes to.
pub struct Outcome {
    /// For each number of neighbours.
    pub scores: Vec<KnnScores>,
    /// Name of each image that could not be read, and why.
    pub skipped: Vec<(String, String)>,
    /// What was left out of the others.
    pub left_out: Tally,
}

/// Evaluates and prints. False if an image could not be read.
pub fn run(args: &Args) -> Result<bool> {
    let device = args.compute.device()?;
    let say = |text: &str| note!("{text}");
    let guard = Guard::new().context("signal handlers")?;
    let stop = || guard.stop();
    let access = Access { say: &say, stop: &stop, ..Access::usual() };
    let (train, val) = match &args.data_path {
        Some(root) => (format!("{root}/train"), format!("{root}/val")),
        None => (args.train.clone().unwrap_or_default(), args.val.clone().unwrap_or_default()),
    };
    let sets = open("--train", &train, "--val", &val, args.most.unwrap_or(usize::MAX), &access)?;
    guard.release();
    let count = sets.0.places.len();
    let ks = match &args.nb_knn {
        Some(ks) => ks.clone(),
        None => USUAL.into_iter().filter(|&k| k <= count).collect(),
    };
    if let Some(k) = ks.iter().find(|&&k| k == 0 || k > count) {
        bail!("--nb-knn: {k} neighbours cannot be chosen from {count} training images");
    }
    ensure!(!ks.is_empty(), "--train: has {count} images, fewer than any usual number of neighbours; say --nb-knn");

    let Subject { what, model, sight, seed, weights } = subject(args, device)?;
    let random = model.untrained(seed, &sight.device)?;
    let measured = |what: &str, model: &Model| -> Result<Outcome> {
        let bar = progress(what, args.json, (count + sets.1.places.len()) as u64);
        let features = |images: &Tensor| autocast(args.precision.into(), || model.features(images));
        let tell = &mut |done: usize| bar.set_position(done as u64);
        let outcome = classified(&sets, &sight, &ks, args.temperature, &features, tell)?;
        bar.finish_and_clear();
        Ok(outcome)
    };
    let Outcome { scores, skipped, left_out } = measured(what, &model)?;
    // What cannot be read is the same.
    let floor = measured(RANDOM, &random)?.scores;
    for (name, reason) in &skipped {
        note!("error: skipped {name}: {reason}");
    }
    left_out.lines().iter().for_each(|(_, line)| note!("note: {line}"));
    let classes = sets.0.labels.iter().collect::<BTreeSet<_>>().len();
    let images = [count, sets.1.places.len()];
    let val = if val.is_empty() { "every fifth of them" } else { &val };
    let data = facts(json!({ "train": train, "val": val, "most": args.most }));
    let protocol = facts(json!({
        "feature": model.feature(),
        "image_size": sight.centre.size,
        "temperature": args.temperature,
        "precision": args.precision,
    }));
    let about = About::now(data, protocol, weights);
    if args.json {
        let mut all = facts(json!({
            "feature": model.feature(),
            "image_size": sight.centre.size,
            "temperature": args.temperature,
            "classes": classes,
            "train_images": images[0],
            "val_images": images[1],
            "skipped": skipped.len(),
            "scores": scores,
            "random_initialisation": floor,
        }));
        all.extend(facts(serde_json::to_value(&about)?));
        say!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        say!("feature: {}, at {} pixels", model.feature(), sight.centre.size);
        say!("{} images to classify by {} of {classes} classes", images[1], images[0]);
        say!("{:>5}  {:>6}  {:>6}", "k", "top-1", "top-5");
        for (what, scores) in [(what, &scores), (RANDOM, &floor)] {
            for s in scores {
                say!("{:>5}  {:>6.2}  {:>6.2}  {what}", s.k, 100. * s.top1, 100. * s.top5);
            }
        }
        say!();
        about.lines().iter().for_each(|(name, text)| say!("{name}: {text}"));
    }
    Ok(skipped.is_empty())
}

/// The images that vote and those to classify, whose classes have the same numbers. Flags or fields are named in
/// errors; without `val` every fifth image of `train` is classified.
pub fn open(
    train_name: &'static str,
    train: &str,
    val_name: &'static str,
    val: &str,
    most: usize,
    access: &Access,
) -> Result<(Labelled, Labelled)> {
    let read = |spec: &str| anyhow::Ok(labelled(selfpatch_datasets::open(spec, access)?, most)?);
    let all = read(train).context(train_name)?;
    if val.is_empty() {
        let (train, val) = split(all);
        ensure!(!val.places.is_empty(), "{train_name}: has too few images to classify every fifth of them");
        return Ok((train, val));
    }
    let val = read(val).and_then(|val| Ok(renumbered(&all, val)?)).context(val_name)?;
    Ok((all, val))
}

/// Classifies the second set by the first. `features` makes `[B, D]` of images `[B, C, S, S]`; `tell` hears how many
/// images are done.
pub fn classified(
    (train, val): &(Labelled, Labelled),
    sight: &Sight,
    ks: &[usize],
    temperature: f64,
    features: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>,
    tell: &mut dyn FnMut(usize),
) -> std::result::Result<Outcome, Error> {
    let mut encode = |squares: &[Samples]| {
        let shape = (sight.mean.len(), sight.centre.size);
        let one = |square| normalized(square, shape, (&sight.mean, &sight.std), &sight.device);
        features(&Tensor::cat(&squares.iter().map(one).collect::<candle_core::Result<Vec<_>>>()?, 0)?)
    };
    let train = embed(train, &sight.centre, &mut encode, tell)?;
    let before = train.embedded.labels.len() + train.skipped.len();
    let val = embed(val, &sight.centre, &mut encode, &mut |done| tell(before + done))?;
    let scores = classify(&train.embedded, &val.embedded, ks, temperature)?;
    let skipped = [train.skipped, val.skipped].concat();
    Ok(Outcome { scores, skipped, left_out: train.left_out.with(&val.left_out) })
}

/// A backbone, and what makes one feature of its tokens.
struct Model {
    vit: Vit,
    head: Option<Aggregator>,
}

impl Model {
    /// What stands for an image, in words.
    fn feature(&self) -> &'static str {
        match &self.head {
            Some(_) => "class token after class attention",
            None => self.vit.pooled_words(),
        }
    }

    /// The same architecture with the initial values of `seed`: those that a run of this seed began with.
    fn untrained(&self, seed: u64, device: &Device) -> candle_core::Result<Self> {
        let params = Params::frozen(seed);
        let vb = || params.builder(DType::F32, device);
        let head = self.head.as_ref().map(|head| Aggregator::new(head.config(), vb().pp("ca_head"))).transpose()?;
        Ok(Self { vit: Vit::new(self.vit.config(), vb().pp("backbone"))?, head })
    }

    /// One feature per image, `[B, C, S, S] -> [B, D]`.
    fn features(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        let tokens = self.vit.forward(images)?;
        match &self.head {
            Some(head) => head.image(&tokens),
            None => self.vit.pooled(&tokens),
        }
    }
}

/// What is evaluated.
struct Subject {
    /// What it is called.
    what: &'static str,
    model: Model,
    sight: Sight,
    /// Seed of the initial values that it is compared with.
    seed: u64,
    /// Its weights, in words.
    weights: Facts,
}

/// The model asked for and how it sees: as in the run's training, or as DINO's evaluation.
fn subject(args: &Args, device: Device) -> Result<Subject> {
    let (path, run) = match &args.file.weights {
        Some(path) => (path.clone(), None),
        None => {
            let run = args.run.clone().map_or_else(|| model::newest(Path::new("runs")), Ok)?;
            let config = model::config_of(&run)?;
            let found = checkpoint::newest(&run, |warning| note!("warning: {warning}"))?;
            let found = found.with_context(|| format!("{}: has no checkpoint yet", run.display()))?;
            (found.path.join("teacher.safetensors"), Some(config))
        }
    };
    let (what, seed, vit, shown) = match run {
        None => {
            let vit = model::load(&args.file, &path, &device)?;
            let shown = model::shown(&vit)?;
            ("weights", about::SEED, vit, shown)
        }
        Some(config) => {
            let vit = Vit::load(&path, None, config.vit()?.num_heads, &device)?.with_stated(model::seen(&config));
            let (decoding, data) = (config.data.decoding(), config.data);
            let shown = model::Shown { decoding, mean: data.mean, std: data.std, pixels: config.model.image_size };
            ("trained teacher", config.seed, vit, shown)
        }
    };
    let model::Shown { decoding, mean, std, pixels } = shown;
    let head = model::class_attention(&args.file, &path, &vit, &device)?;
    let of = vit.config();
    let size = args.image_size.unwrap_or(pixels);
    if size == 0 || !size.is_multiple_of(of.patch_size) {
        bail!("--image-size: {size} pixels cannot be cut into patches of {}", of.patch_size);
    }
    if device.is_cpu() {
        let needed = vit.config().forward_bytes(BATCH, size, size);
        room::admit(needed, "a smaller --image-size").map_err(|reason| anyhow!("--image-size {size}: {reason}"))?;
    }
    let weights = about::weights(&path, of);
    let sight = Sight { centre: Centre::new(decoding, size), mean, std, device };
    Ok(Subject { what, model: Model { vit, head }, sight, seed, weights })
}

fn progress(what: &str, quiet: bool, images: u64) -> ProgressBar {
    let bar = ProgressBar::new(images);
    if quiet || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} images | left {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(what.to_string());
    bar
}
