//! `selfpatch inspect-data`: what a set of images is like, and what the network will see of it.

mod settings;

use crate::bounds::{integer, real};
use crate::flags::Given;
use crate::interrupt::Guard;
use crate::recipe::Recipe;
use crate::{signals, whole};
use anyhow::{Context, Result, anyhow};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use selfpatch_datasets::{ImageSource, LoaderConfig, Survey, batch_memory, suggest, survey};
use selfpatch_figures::inspection::{self, Example, Shown, Stages};
use selfpatch_nn::room;
use selfpatch_run::replace_file;
use selfpatch_train::{Config, source};
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Images whose stages are timed.
const TIMED: usize = 64;
/// Bad images that are printed; the page and the JSON have all.
const PRINTED: usize = 20;

/// Which images, and how much of them.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    given: Given<false>,
    #[command(flatten)]
    recipe: Recipe,
    /// Read this many images, evenly spread [default: all]
    #[arg(long, value_name = "N", value_parser = integer(1, 1 << 40))]
    images: Option<usize>,
    /// Images on the contact sheet
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = integer(0, 256))]
    show: usize,
    /// Where contact-sheet.png, index.html and inspection.json go
    #[arg(long, default_value = "runs/inspect-data", value_name = "DIR")]
    output_dir: PathBuf,
    /// Greatest part of the images that may be broken; more make the command fail, as they would stop `train`
    #[arg(long, value_name = "PART", value_parser = real(0., 1.))]
    max_bad: Option<f64>,
    /// Threads that read and decode
    #[arg(long, value_name = "N", value_parser = integer(0, 256))]
    num_workers: Option<usize>,
    /// Write settings that fit the images (channels, range of values, mean, deviation) for `train --config FILE`,
    /// and look at the images through them
    #[arg(long, value_name = "FILE")]
    write_config: Option<PathBuf>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// Looks at the data, prints, writes the sheet. False if more images are bad than allowed.
pub fn run(args: &Args) -> Result<bool> {
    let max_bad = args.max_bad.map(|v| ("data.max_bad".to_string(), toml::Value::Float(v)));
    let flags: Vec<_> = args.given.settings().into_iter().chain(max_bad).collect();
    let (mut config, notes) = args.recipe.resolve(flags.clone())?;
    notes.iter().for_each(|text| note!("note: {text}"));
    anyhow::ensure!(!config.data.path.is_empty(), "which images? --data FOLDER (or another source)");
    config.check_data()?;
    let say = |text: &str| note!("{text}");
    let guard = Guard::new().context("signal handlers")?;
    let source = source(&config, &say, &|| guard.stop())?;
    guard.release();
    // The views of the examples, as they are and as they are shown.
    let shown = LoaderConfig::new(args.show.min(source.len()).max(1), 0);
    let views = batch_memory(&config.crops, &config.data.decoding(), &shown);
    room::admit(views, "a smaller --show, or smaller or fewer crops").map_err(|reason| anyhow!("--show: {reason}"))?;
    fs::create_dir_all(&args.output_dir).with_context(|| args.output_dir.display().to_string())?;
    let folder = args.output_dir.clone();
    signals::before_end(move || whole::sweep(&folder, 0)).context("signal handlers")?;

    let threads = args.num_workers.filter(|n| *n > 0);
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let bar = progress();
    let done = |count: usize| {
        bar.set_length(count as u64);
        bar.inc(1);
    };
    let count = args.images.unwrap_or(usize::MAX);
    let suggestion = match &args.write_config {
        Some(_) => {
            let suggestion = suggest(&*source, &config.data.decoding(), count, threads, &done)
                .map_err(|reason| anyhow!("--write-config: {reason}"))?;
            bar.reset();
            config = args.recipe.resolve(settings::settings(&suggestion).into_iter().chain(flags).collect())?.0;
            config.check_data()?;
            Some(suggestion)
        }
        None => None,
    };
    let survey = survey(&*source, &config.data.decoding(), count, threads, &done);
    bar.finish_and_clear();
    let (examples, stages) = examples(&*source, &config, args.show);

    if let (Some(file), Some(suggestion)) = (&args.write_config, &suggestion)
        && survey.bad.len() < survey.read
    {
        settings::write(suggestion, file, &config, &survey)?;
        note!("settings: {}", file.display());
    }
    let at = |name: &str| args.output_dir.join(name);
    let write =
        |name: &str, bytes: &[u8]| replace_file(&at(name), bytes).with_context(|| at(name).display().to_string());
    let globals = config.crops.globals.len();
    if let Some(sheet) = inspection::sheet(&examples, globals) {
        let path = at("contact-sheet.png");
        let mut png = std::io::Cursor::new(Vec::new());
        let encoded = sheet.write_to(&mut png, image::ImageFormat::Png);
        encoded.with_context(|| path.display().to_string())?;
        write("contact-sheet.png", &png.into_inner())?;
    }
    let json = serde_json::json!({ "data": config.data.path, "survey": &survey, "stages_ms": stages });
    write("index.html", inspection::page(&config.data.path, &survey, &stages, &examples, globals)?.as_bytes())?;
    write("inspection.json", serde_json::to_string_pretty(&json)?.as_bytes())?;
    if args.json {
        say!("{json}");
    } else {
        print(&survey, &stages, &args.output_dir);
    }
    let allowed = survey.bad.len() as f64 <= config.data.max_bad * survey.read as f64;
    if !allowed {
        note!(
            "error: {} of {} images cannot be used, more than {} % of them (--max-bad); `train` would stop",
            survey.bad.len(),
            survey.read,
            config.data.max_bad * 100.
        );
    }
    Ok(allowed && survey.bad.len() < survey.read)
}

/// The images to show, evenly spread, and the mean time of the stages over these and some more.
fn examples(source: &dyn ImageSource, config: &Config, show: usize) -> (Vec<Example>, Stages) {
    let (count, decoding) = (source.len(), config.data.decoding());
    let tries = show.max(TIMED).min(count);
    let mut times = [Duration::ZERO; 3];
    let (mut examples, mut timed) = (Vec::new(), 0);
    // In an order in which any first few are spread over all of them.
    let step = (1..).map(|i| count * 618 / 1000 + i).find(|s| coprime(*s, count)).unwrap_or(1);
    let how = Shown { decoding: &decoding, pillow: config.data.resizing(), crops: &config.crops, seed: config.seed };
    for number in 0..tries {
        let mut own = [Duration::ZERO; 3];
        let index = number * step % count;
        let mut begun = Instant::now();
        let mut lap = |stage: usize| own[stage] += std::mem::replace(&mut begun, Instant::now()).elapsed();
        let Ok(example) = inspection::example(source, index, &how, &mut lap) else { continue };
        timed += 1;
        times.iter_mut().zip(own).for_each(|(sum, time)| *sum += time);
        if examples.len() < show {
            examples.push(example);
        }
    }
    let [read, decode, views] = times.map(|t| 1e3 * t.as_secs_f64() / f64::from(timed.max(1)));
    (examples, Stages { read, decode, views })
}

fn coprime(a: usize, b: usize) -> bool {
    if b == 0 { a == 1 } else { coprime(b, a % b) }
}

fn print(s: &Survey, stages: &Stages, folder: &Path) {
    say!("images      {} ({} read, {:.1} MB)", s.images, s.read, s.bytes as f64 / 1e6);
    for (kind, count) in &s.formats {
        say!("            {count} {kind}");
    }
    say!("width       {} to {}, median {}", s.width.least, s.width.most, s.width.median);
    say!("height      {} to {}, median {}", s.height.least, s.height.most, s.height.median);
    let list = |v: &[f64]| v.iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(" ");
    // Scaled back from single precision, beyond which digits mean nothing.
    say!("values      {} to {}", s.values[0] as f32, s.values[1] as f32);
    say!("mean        {}", list(&s.mean));
    say!("std         {}", list(&s.std));
    if !s.classes.is_empty() {
        let (least, most) = s.classes.iter().fold((usize::MAX, 0), |(l, m), (_, n)| (l.min(*n), m.max(*n)));
        say!("classes     {} of {least} to {most} images", s.classes.len());
    }
    let whole = stages.read + stages.decode + stages.views;
    say!(
        "one image   {:.2} ms: read {:.2}, decode {:.2}, views {:.2}; {:.0} images per second and core",
        whole,
        stages.read,
        stages.decode,
        stages.views,
        1e3 / whole.max(1e-9)
    );
    for (what, list) in [("cannot be used", &s.bad), ("named as another format", &s.mislabelled)] {
        say!("{} {what}", list.len());
        for named in list.iter().take(PRINTED) {
            say!("            {}: {}", named.name, named.reason);
        }
        if list.len() > PRINTED {
            say!("            and {} more, see inspection.json", list.len() - PRINTED);
        }
    }
    for text in &s.advice {
        say!("note: {text}");
    }
    say!("sheet:  {}", folder.join("contact-sheet.png").display());
    say!("page:   {}", folder.join("index.html").display());
}

fn progress() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} images | {per_sec} | left {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
