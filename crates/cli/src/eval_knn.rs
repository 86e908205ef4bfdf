//! `selfpatch eval-knn`: images classified by their nearest neighbours among labelled ones.

use crate::about;
use crate::bounds::{integer, real};
use crate::device::{self, Compute};
use crate::interrupt::Guard;
use crate::labelled::{self, Set, Sets};
use crate::subject::{self, RANDOM, Sight, Subject};
use anyhow::{Context, Result, bail, ensure};
use candle_core::Tensor;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use selfpatch_datasets::{Access, Samples};
use selfpatch_eval::images::embed;
use selfpatch_eval::{Error, KnnScores, classify, facts};
use selfpatch_model::Encoder;
use selfpatch_nn::autocast;
use selfpatch_train::config::Precision;
use serde_json::json;
use std::io::IsTerminal;

/// DINO's numbers of neighbours.
const USUAL: [usize; 4] = [10, 20, 100, 200];

/// What is evaluated, on what, and how.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    subject: subject::Args,
    #[command(flatten)]
    data: labelled::Args,
    /// Neighbours that vote, one number or several [default: those of 10 20 100 200 for which there are images]
    #[arg(long, visible_alias = "k", value_name = "K", num_args = 1.., value_parser = integer(1, 1_000_000))]
    nb_knn: Option<Vec<usize>>,
    /// Divisor of the cosine in the exponent of a vote
    #[arg(long, default_value_t = 0.07, value_parser = real(1e-4, 1e4))]
    temperature: f64,
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
pub struct Classified {
    /// Scores for each number of neighbours.
    pub scores: Vec<KnnScores>,
    /// The images that could not be read, and why.
    pub skipped: Vec<(String, String)>,
    /// What of the images was not shown to the model, each with what names the set.
    pub left_out: Vec<(&'static str, String)>,
}

/// Evaluates and prints. False if an image could not be read.
pub fn run(args: &Args) -> Result<bool> {
    let device = args.compute.device()?;
    let say = |text: &str| note!("{text}");
    let guard = Guard::new().context("signal handlers")?;
    let stop = || guard.stop();
    let access = Access { say: &say, stop: &stop, ..Access::usual() };
    let sources = args.data.sources();
    let sets = sources.open(["--train", "--val"], &access)?;
    guard.release();
    let count = sets.train.count();
    let ks = match &args.nb_knn {
        Some(ks) => ks.clone(),
        None => USUAL.into_iter().filter(|&k| k <= count).collect(),
    };
    if let Some(k) = ks.iter().find(|&&k| k == 0 || k > count) {
        bail!("--nb-knn: {k} neighbours cannot be chosen from {count} training images");
    }
    ensure!(!ks.is_empty(), "--train: has {count} images, fewer than any usual number of neighbours; say --nb-knn");

    let Subject { what, encoder, sight, seed, weights, .. } = Subject::of(&args.subject, device)?;
    let random = encoder.untrained(seed, &sight.device)?;
    let measured = |what: &str, model: &Encoder| -> Result<Classified> {
        let bar = progress(what, args.json, (count + sets.val.count()) as u64);
        let features = |images: &Tensor| autocast(args.precision, || model.features(images));
        let tell = &mut |done: usize| bar.set_position(done as u64);
        let outcome = classified(&sets, &sight, &ks, args.temperature, &features, tell)?;
        bar.finish_and_clear();
        Ok(outcome)
    };
    let Classified { scores, skipped, left_out } = measured(what, &encoder)?;
    // What cannot be read, or is left out, is the same.
    let Classified { scores: floor, .. } = measured(RANDOM, &random)?;
    for (name, reason) in &skipped {
        note!("error: skipped {name}: {reason}");
    }
    for (set, text) in &left_out {
        note!("note: {set}: {text}");
    }
    let (classes, images) = (sets.classes(), [count, sets.val.count()]);
    let val = if sources.val.is_empty() { "every fifth of them" } else { &sources.val };
    let data = facts(json!({ "train": sources.train, "val": val, "most": sources.most }));
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

/// Classifies the second set by the first. `features` makes `[B, D]` of images `[B, C, S, S]`; `tell` hears how many
/// images are done.
pub fn classified(
    sets: &Sets,
    sight: &Sight,
    ks: &[usize],
    temperature: f64,
    features: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>,
    tell: &mut dyn FnMut(usize),
) -> std::result::Result<Classified, Error> {
    let mut encode = |squares: &[Samples]| features(&sight.pixels(squares)?);
    let mut embedded = |set: &Set, tell: &mut dyn FnMut(usize)| {
        embed(&set.images, &sight.centre, &mut encode, tell).map_err(|e| match e {
            Error::Images(reason) => Error::Images(format!("{}: {reason}", set.name)),
            other => other,
        })
    };
    let train = embedded(&sets.train, tell)?;
    let val = embedded(&sets.val, &mut |done| tell(sets.train.count() + done))?;
    let scores = classify(&train.embedded()?, &val.embedded()?, ks, temperature)?;
    let named = |set: &Set, texts: Vec<String>| texts.into_iter().map(|text| (set.name, text)).collect();
    let left_out: [Vec<_>; 2] = [named(&sets.train, train.left_out), named(&sets.val, val.left_out)];
    Ok(Classified { scores, skipped: [train.skipped, val.skipped].concat(), left_out: left_out.concat() })
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
