//! `selfpatch eval-davis`.

mod args;
mod judge;
mod size;
pub mod synthetic;

use crate::model;
use crate::{about, signals, whole};
use anyhow::{Context, Result, bail};
use judge::{Candidate, Judge, Judged};
use selfpatch_eval::results::{self, Results};
use selfpatch_eval::{Row, table};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use args::Args;
pub use size::Size;

/// Evaluates, prints and writes. False if a sequence failed.
pub fn run(args: &Args) -> Result<bool> {
    let device = args.compute.device()?;
    let videos = args.videos()?;
    let mut judge = Judge::new(args, &videos, &device);
    let mut models = Vec::new();
    if let Some(path) = &args.file.weights {
        swept_at_end(args.output_dir.as_slice())?;
        let vit = model::load(&args.file, path, &device)?;
        model::check_frames(&vit)?;
        let (label, weights) = (path.display().to_string(), about::weights(path, vit.config()));
        let results = args.output_dir.as_deref().map(Results::new).transpose()?;
        let candidate = Candidate { label, weights, vit, seed: about::SEED };
        models.push(judge.judge("weights", candidate, results.as_ref())?);
    } else {
        let runs = if args.run.is_empty() { vec![model::newest(Path::new("runs"))?] } else { args.run.clone() };
        let folders = args.output_dir.as_deref().map(|dir| folders(dir, &runs)).transpose()?;
        let parent = args.output_dir.iter().cloned();
        swept_at_end(&parent.chain(folders.iter().flatten().cloned()).collect::<Vec<_>>())?;
        for (i, run) in runs.iter().enumerate() {
            let config = model::config_of(run)?;
            let vit = model::trained(run, &config, &device)?;
            model::check_frames(&vit)?;
            let label = format!("{}: trained teacher", run.display());
            let results = folders.as_ref().map(|folders| Results::new(&folders[i])).transpose()?;
            let weights = about::weights(&selfpatch_model::backbone(run), vit.config());
            let candidate = Candidate { label, weights, vit, seed: config.seed };
            models.push(judge.judge("trained teacher", candidate, results.as_ref())?);
        }
        if let Some((dir, folders)) = args.output_dir.as_ref().zip(folders).filter(|_| runs.len() > 1) {
            results::write_page(dir, &[folders, args.compare.clone()].concat(), &*videos.source)?;
        }
    }
    print(args, &models)?;
    // Most of what goes wrong does so for every model.
    let mut told = BTreeSet::new();
    let evaluations = || models.iter().flat_map(|m| [&m.evaluation, &m.random, &m.floor]);
    for evaluation in evaluations() {
        let unscored = evaluation.unscored.iter();
        let mut lines: Vec<String> =
            unscored.map(|name| format!("note: {name} has too few annotations to be scored")).collect();
        lines.extend(evaluation.notes.iter().map(|(name, note)| format!("note: sequence {name}: {note}")));
        lines.extend(evaluation.failures.iter().map(|(name, e)| match e.to_string() {
            text if text.contains(name.as_str()) => format!("error: {text}"),
            text => format!("error: sequence {name}: {text}"),
        }));
        lines.into_iter().filter(|line| told.insert(line.clone())).for_each(|line| note!("{line}"));
    }
    Ok(evaluations().all(|e| e.failures.is_empty()))
}

/// Has a signal that ends the program leave no half-written file in these folders of results.
fn swept_at_end(folders: &[PathBuf]) -> Result<()> {
    let places: Vec<_> = folders.iter().flat_map(|folder| Results::places(folder)).collect();
    signals::before_end(move || places.iter().for_each(|(folder, deep)| whole::sweep(folder, *deep)))
        .context("signal handlers")
}

/// Where the results of each run go: `dir` for a single one, else a folder of the run's name in it.
fn folders(dir: &Path, runs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if let [_] = runs {
        return Ok(vec![dir.to_path_buf()]);
    }
    let folders: Vec<PathBuf> = runs.iter().map(|run| dir.join(run.file_name().unwrap_or(run.as_os_str()))).collect();
    match folders.iter().collect::<BTreeSet<_>>().len() == folders.len() {
        true => Ok(folders),
        false => bail!("--output-dir: two of the runs have one name, so their results would share a folder"),
    }
}

fn print(args: &Args, models: &[Judged]) -> Result<()> {
    match (args.json, models) {
        (true, [model]) => say!("{}", serde_json::to_string_pretty(&model.json()?)?),
        (true, many) => {
            let all: serde_json::Map<String, serde_json::Value> =
                many.iter().map(|m| Ok((m.label.clone(), m.json()?))).collect::<Result<_>>()?;
            say!("{}", serde_json::to_string_pretty(&all)?);
        }
        _ => say!("{}{}", scores(models, args.file.weights.is_some()), circumstances(models).trim_end()),
    }
    Ok(())
}

/// Table of the models, of networks with random initial values and of the first mask; `videos` adds rows for each video
/// of the models.
fn scores(models: &[Judged], videos: bool) -> String {
    let mut random: Vec<(String, &Judged)> = Vec::new();
    for model in models.iter().rev() {
        if !random.iter().any(|(_, other)| Rc::ptr_eq(&other.random, &model.random)) {
            let name = model.label.strip_suffix("trained teacher").unwrap_or_default();
            random.insert(0, (format!("{name}random initialisation"), model));
        }
    }
    let row = |label, report, videos| Row { label, report, videos };
    let mut rows: Vec<Row> = models.iter().map(|m| row(m.label.as_str(), &m.evaluation.report, videos)).collect();
    rows.extend(random.iter().map(|(label, m)| row(label.as_str(), &m.random.report, false)));
    rows.extend(models.first().map(|m| row("first mask copied", &m.floor.report, false)));
    table(&rows)
}

/// What the scores belong to, a line each; those of several models where they differ.
fn circumstances(models: &[Judged]) -> String {
    let mut text = String::from("\n");
    let mut told = BTreeSet::new();
    for (name, line) in models.iter().flat_map(|m| m.about.lines()) {
        if told.insert((name, line.clone())) {
            text += &format!("{name}: {line}\n");
        }
    }
    text
}
