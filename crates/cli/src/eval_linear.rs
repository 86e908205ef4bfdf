//! `selfpatch eval-linear`: what a linear classifier makes of frozen features.

use crate::about;
use crate::bounds::{integer, real};
use crate::device::Compute;
use crate::interrupt;
use crate::labelled::{self, Sources};
use crate::progress::Show;
use crate::signals;
use crate::subject::{self, RANDOM, Subject};
use anyhow::{Context, Result, anyhow, ensure};
use selfpatch_datasets::{Access, Samples};
use selfpatch_eval::facts;
use selfpatch_finetune::linear::{self, Config, Data, Encode, Model, Optim, Row, SHEET, TASK, Verdict};
use selfpatch_output::ended;
use selfpatch_run::{Checkpointing, End, Error, HealthWatch, Resume, Session};
use serde_json::json;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

/// Rates that are tried side by side, for 256 images per step.
const RATES: [f64; 7] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1];
/// DINO's rate.
const DINO_RATE: f64 = 1e-3;

/// What is probed, on what, and how.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    subject: subject::Args,
    #[command(flatten)]
    data: labelled::Args,
    /// DINO's protocol: a new random view of each image in every epoch, one rate (0.001 unless --lr says otherwise);
    /// without it features are made once, and the best of several rates is chosen on a held-out tenth
    #[arg(long)]
    augment: bool,
    /// Passes over the images
    #[arg(long, default_value_t = 100, value_parser = integer(1, 1_000_000))]
    epochs: usize,
    /// Images per step
    #[arg(long, visible_alias = "batch-size-per-gpu", default_value_t = 256, value_parser = integer(1, 1_000_000))]
    batch_size: usize,
    /// Learning rate for 256 images per step, one or several to choose from [default: 0.0001 0.0003 0.001 0.003 0.01 0.03 0.1; with
    /// --augment 0.001]
    #[arg(long, num_args = 1.., value_name = "RATE", value_parser = real(1e-9, 1e6))]
    lr: Vec<f64>,
    /// Seed of the classifiers, of the order of images and of views
    #[arg(long, default_value_t = 0)]
    seed: u32,
    /// Name of the probe's own run; its folder is runs/NAME [default: linear- and the name of the run or file]
    #[arg(long)]
    name: Option<String>,
    /// Folder of the probe's own run
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Discard an earlier probe in that folder
    #[arg(long)]
    overwrite: bool,
    /// Stop after this many steps, the schedules unchanged
    #[arg(long, value_name = "N", value_parser = integer(1, 1 << 40))]
    max_steps: Option<usize>,
    /// Threads that load; 0 for one per core
    #[arg(long, default_value_t = 0, value_parser = integer(0, 4096))]
    num_workers: usize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: Compute,
}

/// Probes, or continues a probe, and prints.
pub fn run(args: &Args) -> Result<ExitCode> {
    let device = args.compute.device()?;
    let stop = signals::stop().context("signal handlers")?;
    interrupt::remember().context("signal handlers")?;
    let show = RefCell::new(match args.json {
        true => Show::quiet(SHEET),
        false => Show::new(SHEET),
    });
    let say = |text: &str| show.borrow().say(text);
    let is_over = || stop.load(Ordering::Relaxed);
    let access = Access { say: &say, stop: &is_over, ..Access::usual() };
    let sources = args.data.sources();
    let sets = sources.open(["--train", "--val"], &access)?;
    let (classes, images) = (sets.classes(), [sets.train.count(), sets.val.count()]);
    ensure!(classes > 1, "--train: has images of {classes} class alone; there is nothing to tell apart");
    let subject = Subject::of(&args.subject, device.clone())?;
    let config = args.config(&subject, sources)?;
    let random = subject.encoder.untrained(subject.seed, &device)?;
    let width = subject.encoder.probe_width();
    let encode =
        |of: &selfpatch_model::Encoder, squares: &[Samples]| of.probe_features(&subject.sight.pixels(squares)?);
    let trained: Encode = &|squares| encode(&subject.encoder, squares);
    let untrained: Encode = &|squares| encode(&random, squares);
    let subjects = [
        linear::Subject { name: "", encode: trained, width },
        linear::Subject { name: "random", encode: untrained, width },
    ];
    let (train, val, centre) = (sets.train.images, sets.val.images, subject.sight.centre.clone());
    let sets = linear::Sets { train, val, centre };
    let session = Session { overwrite: args.overwrite, resume: Resume::Auto, overrides: &[], asked: &[], stop: &stop };
    let tell = &mut |event: selfpatch_run::Event| show.borrow_mut().event(event);
    let verdict = linear::run(&config, &session, &sets, &subjects, &device, tell).map_err(refused)?;
    show.borrow().finish();
    for (name, reason) in &verdict.noticed.skipped {
        note!("error: skipped {name}: {reason}");
    }
    verdict.noticed.left_out.iter().for_each(|text| note!("note: {text}"));
    if let End::Stopped(step) = verdict.summary.end {
        note!("stopped and saved after step {step}; the same command continues");
        return Ok(ExitCode::from(signals::STOPPED));
    }
    if let Some(cut) = verdict.summary.cut {
        note!("note: {} of {} steps are done; the same command without --max-steps does the others", cut.step, cut.of);
    }
    print(args, &config, &subject, &verdict, [images[0], images[1], classes])?;
    let is_whole = verdict.noticed.skipped.is_empty();
    Ok(ended(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

/// What keeps a probe from going on, without flags that this command does not have.
fn refused(error: Error) -> anyhow::Error {
    match error {
        Error::OtherRun { path, differences, .. } | Error::OtherShape { path, differences } => anyhow!(
            "{} holds a probe with other settings: {differences}. Repeat its own command to continue it, choose another \
             --name, or start over with --overwrite",
            path.display()
        ),
        other => other.into(),
    }
}

impl Args {
    /// The settings of the probe's own run.
    fn config(&self, subject: &Subject, data: Sources) -> Result<Config> {
        let of = match (&self.subject.file.weights, subject.path.parent().and_then(Path::parent)) {
            (None, Some(run)) => run.file_name(),
            _ => subject.path.file_stem(),
        };
        let usual = format!("linear-{}", of.unwrap_or_default().to_string_lossy());
        let name = self.name.clone().unwrap_or(usual);
        let rates = match (self.lr.is_empty(), self.augment) {
            (false, _) => self.lr.clone(),
            (true, true) => vec![DINO_RATE],
            (true, false) => RATES.to_vec(),
        };
        let bytes = std::fs::read(&subject.path).with_context(|| subject.path.display().to_string())?;
        let config = Config {
            task: TASK.into(),
            output_dir: self.output_dir.clone().unwrap_or_else(|| Path::new("runs").join(&name)),
            name,
            seed: self.seed.into(),
            model: Model {
                weights: subject.path.display().to_string(),
                digest: blake3::hash(&bytes).to_hex().to_string(),
                feature: subject.encoder.probe_feature(),
                image_size: subject.sight.centre.size,
            },
            data: Data {
                path: data.train,
                val: data.val,
                most: data.most,
                augment: self.augment,
                workers: self.num_workers,
                max_bad: 0.01,
            },
            optim: Optim { epochs: self.epochs, batch_size: self.batch_size, rates, max_steps: self.max_steps },
            checkpoint: Checkpointing { every_epochs: (self.epochs / 10).max(1), ..Checkpointing::default() },
            health: HealthWatch::default(),
        };
        config.check()?;
        Ok(config)
    }
}

/// Prints what the probe found out. `counts`: training images, test images, classes.
fn print(args: &Args, config: &Config, subject: &Subject, verdict: &Verdict, counts: [usize; 3]) -> Result<()> {
    let [train, val, classes] = counts;
    let feature = &config.model.feature;
    let named = |row: &Row| if row.name.is_empty() { subject.what } else { RANDOM };
    let data = facts(json!({ "train": config.data.path, "val": config.data.val, "most": config.data.most }));
    let protocol = facts(json!({
        "feature": feature,
        "image_size": config.model.image_size,
        "augment": config.data.augment,
        "epochs": config.optim.epochs,
        "batch_size": config.optim.batch_size,
        "max_steps": verdict.summary.cut.map(|cut| cut.step),
    }));
    let about = about::now(data, protocol, subject.weights.clone());
    let folder = &verdict.summary.folder;
    if args.json {
        let of = |name: &str| verdict.rows.iter().find(|row| row.name == name);
        let mut all = facts(json!({
            "feature": feature,
            "classes": classes,
            "train_images": train,
            "val_images": val,
            "skipped": verdict.noticed.skipped.len(),
            "notes": verdict.noticed.left_out,
            "scores": of(""),
            "random_initialisation": of("random"),
            "run": folder,
        }));
        all.extend(facts(serde_json::to_value(&about)?));
        say!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    say!("feature: {feature}, at {} pixels", config.model.image_size);
    say!("{val} images judged by classifiers that learnt from {train} of {classes} classes");
    say!("{:>6}  {:>6}  {:>8}  {:>6}", "top-1", "top-5", "held out", "rate");
    for row in &verdict.rows {
        let held_out = row.held_out_top1.map_or("-".into(), |top1| format!("{:.2}", 100. * top1));
        let (top1, top5) = (100. * row.top1, 100. * row.top5);
        say!("{top1:>6.2}  {top5:>6.2}  {held_out:>8}  {:>6}  {}", row.rate, named(row));
    }
    say!();
    about.lines().iter().for_each(|(name, text)| say!("{name}: {text}"));
    say!("report: {}", folder.join("report.html").display());
    Ok(())
}
