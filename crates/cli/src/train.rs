//! `selfpatch train`.

use crate::device::Compute;
use crate::eval_davis::{Size, synthetic};
use crate::eval_knn::{Classified, classified};
use crate::flags::Given;
use crate::interrupt;
use crate::labelled::Sources;
use crate::model;
use crate::progress::Show;
use crate::recipe::Recipe;
use crate::signals;
use crate::subject::Sight;
use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{Device, Tensor};
use selfpatch_datasets::{Access, DavisFolder, VideoSource};
use selfpatch_eval::images::Centre;
use selfpatch_eval::{FrameSize, Propagation, Protocol, VitFeatures, evaluate};
use selfpatch_output::ended;
use selfpatch_run::progress;
use selfpatch_run::{Asked, End, Session};
use selfpatch_train::continuing::{Chosen, chosen};
use selfpatch_train::{Config, Error, Measure, Network, SHEET, run as train};
use selfpatch_vit::Vit;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the flags of `train` have in common.
const NOTES: &str = "\
[default: 1, paper: 2] after a flag means: left out, it is 1 under the preset default and every other preset that is \
not named, and 2 under paper. multichannel has the values of folder. Where a run continues, its own settings take the \
place of the preset's.

Hyphens and underscores in flags mean the same. A --config file overrides the preset, flags override the file, and --set \
overrides flags; --print-config shows the result. docs/flags.md lists every flag with the field that it sets.";

/// Flags of `train`.
#[derive(clap::Args)]
#[command(allow_negative_numbers = true, after_help = NOTES)]
pub struct Args {
    #[command(flatten)]
    recipe: Recipe,
    /// Print the resolved settings, all of them, and exit
    #[arg(long)]
    print_config: bool,
    /// The flags that set one field each.
    #[command(flatten)]
    pub given: Given<true>,
    #[command(flatten)]
    session: SessionFlags,
    #[command(flatten, next_help_heading = "Run")]
    compute: Compute,
}

/// Where a run begins.
#[derive(clap::Args)]
#[command(next_help_heading = "Run")]
struct SessionFlags {
    /// Checkpoint to continue from: auto (the newest whole one of the run), never, or the folder of a checkpoint or a run,
    /// which then needs no other flag
    #[arg(long, value_name = "WHERE", default_value = "auto")]
    resume: PathBuf,
    /// Fields whose values may differ from the checkpoint's, such as optim.lr,optim.batch_size; the run remembers them
    #[arg(long = "override", value_name = "FIELD", value_delimiter = ',')]
    overrides: Vec<String>,
    /// Discard an earlier run in the same folder
    #[arg(long)]
    overwrite: bool,
}

/// Trains, or continues, and says where the results are.
pub fn run(args: &Args) -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let asked = args.given.typed(&arguments);
    let Chosen { config, resume, preset, data_of, notes } = args.chosen(&asked)?;
    notes.iter().for_each(|note| note!("note: {note}"));
    let usual = preset.map(|preset| preset.config().optim.warmup_epochs);
    if usual.is_some_and(|usual| usual != config.optim.warmup_epochs) && !args.given.sets("optim.warmup_epochs") {
        note!("note: {} epochs of warm-up, a run of {}", config.optim.warmup_epochs, config.optim.epochs);
    }
    if args.print_config {
        say!("{}", config.to_toml()?.trim_end());
        return Ok(ended(ExitCode::SUCCESS));
    }
    let stop = signals::stop().context("signal handlers")?;
    interrupt::remember().context("signal handlers")?;
    let device = args.compute.device()?;
    let show = RefCell::new(Show::new(SHEET));
    let say = |text: &str| show.borrow().say(text);
    let (mut davis, mut knn) = (davis(&config, &device, &say)?, knn(&config, &device, &say, &stop)?);
    let mut judge = |what: Measure, teacher: &Network| match what {
        Measure::Davis => davis(&teacher.backbone),
        Measure::Knn => knn(teacher),
    };
    let session = Session {
        overwrite: args.session.overwrite,
        resume,
        overrides: &args.session.overrides,
        asked: &asked,
        stop: &stop,
    };
    let summary = train(&config, &session, &device, &mut judge, |event| show.borrow_mut().event(event));
    let show = show.borrow();
    show.finish();
    let data_of = data_of.filter(|_| !show.has_begun());
    let summary = summary.map_err(|e| advised(e, data_of.as_deref()))?;
    if let End::Stopped(step) = summary.end {
        let without = if args.session.overwrite { " without --overwrite" } else { "" };
        show.line(&format!("stopped and saved after step {step}"));
        show.line(&format!("the same command{without} continues"));
        return Ok(ExitCode::from(signals::STOPPED));
    }
    let folder = summary.folder.display();
    match (summary.cut, summary.end) {
        (Some(cut), _) => {
            let without = if args.session.overwrite { "it and without --overwrite" } else { "it" };
            show.line(&format!("{folder} {}", progress::cut(cut.step as u64, cut.of as u64)));
            show.line(&format!("the same command without {without} goes on"));
        }
        (None, End::WasComplete) => {
            show.line(&format!("{folder} is complete"));
            show.line("use --name or --output-dir for another run, --overwrite to repeat it");
        }
        _ => {}
    }
    if summary.end == End::WasComplete && !args.session.overrides.is_empty() {
        show.line("nothing was trained, so --override has changed nothing");
    }
    show.line(&format!("backbone: {}", selfpatch_model::backbone(&summary.folder).display()));
    show.line(&format!("report:   {}", summary.folder.join("report.html").display()));
    show.line(&format!("evaluate: cargo xtask eval-davis --run {}", summary.folder.display()));
    Ok(ExitCode::SUCCESS)
}

/// Score of a teacher, or why there is none.
type Measured = std::result::Result<f64, String>;

/// An error with what to do about it where the memory of a GPU is full, or where it is about the data of `data_of`, a
/// run whose saved settings alone say where that is.
fn advised(e: Error, data_of: Option<&Path>) -> anyhow::Error {
    let text = e.to_string();
    if ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"].iter().any(|name| text.contains(name)) {
        return anyhow!(
            "--device: the memory of the GPU is full; --precision bf16, --accumulate, --recompute or a smaller \
             --batch-size need less"
        );
    }
    match (&e, data_of) {
        (Error::Data(selfpatch_datasets::Error::Stopped { .. }), _) | (_, None) => e.into(),
        (Error::Data(_), Some(run)) => anyhow!(
            "data.path of {}: {text}. Where its images are elsewhere now, --data NEW goes on with the same ones there, \
             --data NEW --override data.path with others",
            run.display()
        ),
        _ => e.into(),
    }
}

/// Measures a teacher as `eval.davis` says. The videos are opened before training begins, so that what is
/// wrong with them shows at once; what is to be said of a sequence is said once.
fn davis<'a>(
    config: &Config,
    device: &Device,
    say: &'a dyn Fn(&str),
) -> Result<impl FnMut(&Vit) -> Measured + use<'a>> {
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
    let mut told = BTreeSet::new();
    Ok(move |teacher: &Vit| {
        let model = VitFeatures::new(teacher.clone().with_stated(seen.clone()), device.clone());
        let evaluation = evaluate(&*videos, &model, &protocol, &mut |_| Ok(())).map_err(|e| e.to_string())?;
        let notes = evaluation.notes.iter().map(|(name, note)| format!("note: eval.davis: sequence {name}: {note}"));
        notes.filter(|note| told.insert(note.clone())).for_each(|note| say(&note));
        match evaluation.failures.first() {
            Some((_, e)) => Err(e.to_string()),
            None => Ok(evaluation.report.global.jf),
        }
    })
}

/// Measures a teacher as `eval.knn` says. The sources are opened before training begins; images that cannot be
/// read are named once, and so is what of the others was left out; more of them than `data.max_bad` allows are a reason not to measure.
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
    let sources = Sources { train: d.train.clone(), val: d.val.clone(), most: Some(d.most) };
    let open = || sources.open(["eval.knn.train", "eval.knn.val"], &access);
    let sets = (d.every > 0).then(open).transpose()?;
    if let Some(sets) = &sets {
        let n = sets.train.count();
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
        let Classified { scores, skipped, left_out } = outcome.map_err(|e| e.to_string())?;
        let notes = left_out.iter().map(|(set, text)| format!("note: {set}: {text}"));
        notes.filter(|note| told.insert(note.clone())).for_each(|note| say(&note));
        for (name, reason) in skipped.iter().filter(|(name, _)| told.insert(name.clone())) {
            say(&format!("skipped {name}: {reason}"));
        }
        let all = sets.train.count() + sets.val.count();
        if skipped.len() as f64 > config.data.max_bad * all as f64 {
            return Err(format!("{} of {all} images cannot be used, more than data.max_bad allows", skipped.len()));
        }
        scores.first().map(|s| s.top1).ok_or_else(|| "no scores".into())
    })
}

impl Args {
    /// The run that is meant, with all settings checked; what is wrong with one names the flag that it was given by.
    pub fn chosen(&self, asked: &[Asked]) -> Result<Chosen> {
        let layers = self.recipe.layers(self.given.settings())?;
        let chosen = chosen(&layers, &self.session.resume, self.session.overwrite)?;
        chosen.config.check().map_err(|e| match &e {
            Error::Config { field, reason } => match asked.iter().rev().find(|asked| asked.field == *field) {
                Some(Asked { flag, .. }) => anyhow!("{flag} ({field}): {reason}"),
                None => e.into(),
            },
            _ => e.into(),
        })?;
        Ok(chosen)
    }
}
