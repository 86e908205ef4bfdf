//! `selfpatch eval-knn`: images classified by their nearest neighbours among labelled ones.

use crate::about;
use crate::bounds::{integer, real};
use crate::device::{self, Compute};
use crate::interrupt::Guard;
use crate::model::WeightFile;
use crate::subject::{Asked, RANDOM, Sight, Subject};
use anyhow::{Context, Result, bail, ensure};
use candle_core::Tensor;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use selfpatch_datasets::{Access, Samples};
use selfpatch_eval::images::{Labelled, embed, labelled, renumbered, split};
use selfpatch_eval::{Error, KnnScores, classify, facts};
use selfpatch_model::Encoder;
use selfpatch_nn::autocast;
use selfpatch_train::config::Precision;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;

/// DINO's numbers of neighbours.
const USUAL: [usize; 4] = [10, 20, 100, 200];

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
    #[arg(long, visible_alias = "k", value_name = "K", num_args = 1.., value_parser = integer(1, 1_000_000))]
    nb_knn: Option<Vec<usize>>,
    /// Divisor of the cosine in the exponent of a vote
    #[arg(long, default_value_t = 0.07, value_parser = real(1e-4, 1e4))]
    temperature: f64,
    /// Take only so many images of each source, evenly spread [default: all]
    #[arg(long, value_name = "N", value_parser = integer(1, 1 << 40))]
    most: Option<usize>,
    /// Side of the central square that the model sees [default: as the run or the file states; else 224, or the side of
    /// its position table if that is less]
    #[arg(long, value_name = "PIXELS", value_parser = integer(1, 4096))]
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

/// How one set of images was classified by another.
pub struct Outcome {
    /// For each number of neighbours.
    pub scores: Vec<KnnScores>,
    /// The images that could not be read, and why.
    pub skipped: Vec<(String, String)>,
    /// What of the images was not shown to the model, each with what names the set.
    pub left_out: Vec<(&'static str, String)>,
}

/// Labelled images that vote and those to classify, each with the flag or field that names them in messages.
pub struct Sets {
    /// Those that vote.
    pub train: (&'static str, Labelled),
    /// Those to classify.
    pub val: (&'static str, Labelled),
}

impl Sets {
    /// Images of both.
    pub fn images(&self) -> usize {
        self.train.1.places.len() + self.val.1.places.len()
    }
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
    let count = sets.train.1.places.len();
    let ks = match &args.nb_knn {
        Some(ks) => ks.clone(),
        None => USUAL.into_iter().filter(|&k| k <= count).collect(),
    };
    if let Some(k) = ks.iter().find(|&&k| k == 0 || k > count) {
        bail!("--nb-knn: {k} neighbours cannot be chosen from {count} training images");
    }
    ensure!(!ks.is_empty(), "--train: has {count} images, fewer than any usual number of neighbours; say --nb-knn");

    let asked = Asked { run: args.run.as_deref(), file: &args.file, image_size: args.image_size };
    let Subject { what, encoder, sight, seed, weights, .. } = Subject::of(&asked, device)?;
    let random = encoder.untrained(seed, &sight.device)?;
    let measured = |what: &str, model: &Encoder| -> Result<Outcome> {
        let bar = progress(what, args.json, sets.images() as u64);
        let features = |images: &Tensor| autocast(args.precision, || model.features(images));
        let tell = &mut |done: usize| bar.set_position(done as u64);
        let outcome = classified(&sets, &sight, &ks, args.temperature, &features, tell)?;
        bar.finish_and_clear();
        Ok(outcome)
    };
    let Outcome { scores, skipped, left_out } = measured(what, &encoder)?;
    // What cannot be read, or is left out, is the same.
    let Outcome { scores: floor, .. } = measured(RANDOM, &random)?;
    for (name, reason) in &skipped {
        note!("error: skipped {name}: {reason}");
    }
    for (set, text) in &left_out {
        note!("note: {set}: {text}");
    }
    let classes = sets.train.1.labels.iter().collect::<BTreeSet<_>>().len();
    let images = [count, sets.val.1.places.len()];
    let val = if val.is_empty() { "every fifth of them" } else { &val };
    let data = facts(json!({ "train": train, "val": val, "most": args.most }));
    let protocol = facts(json!({
        "feature": encoder.feature(),
        "image_size": sight.centre.size,
        "temperature": args.temperature,
        "precision": args.precision,
    }));
    let about = about::now(data, protocol, weights);
    if args.json {
        let mut all = facts(json!({
            "feature": encoder.feature(),
            "image_size": sight.centre.size,
            "temperature": args.temperature,
            "classes": classes,
            "train_images": images[0],
            "val_images": images[1],
            "skipped": skipped.len(),
            "notes": left_out,
            "scores": scores,
            "random_initialisation": floor,
        }));
        all.extend(facts(serde_json::to_value(&about)?));
        say!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        say!("feature: {}, at {} pixels", encoder.feature(), sight.centre.size);
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
) -> Result<Sets> {
    let read = |spec: &str| anyhow::Ok(labelled(selfpatch_datasets::open(spec, access)?, most)?);
    let all = read(train).context(train_name)?;
    if val.is_empty() {
        let (train, val) = split(all);
        ensure!(!val.places.is_empty(), "{train_name}: has too few images to classify every fifth of them");
        // Both are of one source.
        return Ok(Sets { train: (train_name, train), val: (train_name, val) });
    }
    let val = read(val).and_then(|val| Ok(renumbered(&all, val)?)).context(val_name)?;
    Ok(Sets { train: (train_name, all), val: (val_name, val) })
}

/// Classifies the second set by the first. `features` makes `[B, D]` of images `[B, C, S, S]`; `tell` hears how many
/// images are done.
pub fn classified(
    sets: &Sets,
    sight: &Sight,
    ks: &[usize],
    temperature: f64,
    features: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>,
    tell: &mut dyn FnMut(usize),
) -> std::result::Result<Outcome, Error> {
    let mut encode = |squares: &[Samples]| features(&sight.pixels(squares)?);
    let train = embed(&sets.train.1, &sight.centre, &mut encode, tell)?;
    let before = train.labels.len() + train.skipped.len();
    let val = embed(&sets.val.1, &sight.centre, &mut encode, &mut |done| tell(before + done))?;
    let scores = classify(&train.embedded()?, &val.embedded()?, ks, temperature)?;
    let named = |name, texts: Vec<String>| texts.into_iter().map(move |text| (name, text));
    let left_out = named(sets.train.0, train.left_out).chain(named(sets.val.0, val.left_out)).collect();
    Ok(Outcome { scores, skipped: [train.skipped, val.skipped].concat(), left_out })
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
