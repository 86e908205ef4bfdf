//! `selfpatch parity`: the project's numbers against fixtures computed by the original program.
//!
//! A fixture folder holds `NAME.safetensors` with `NAME.json`, or with one `manifest.json` for all
//! (the two formats differ in their prefixes: `in/ w/ f32/ f64/`, or `in. par. out. grad.`). Shapes,
//! sizes and settings are read from the files.

mod aggregation;
mod augment;
mod computing;
mod davis;
mod fixture;
mod heads;
mod knn;
mod losses;
mod matching;
mod objectives;
mod report;
mod schedules;
mod train;
mod vit;

use anyhow::{Context, Result, bail};
use fixture::{Fixture, Format};
use report::Report;
use selfpatch_nn::autocast;
use std::path::{Path, PathBuf};

pub use computing::Computing;
pub use report::Outcome;

/// A check of one fixture.
type Check = fn(&Fixture, &mut Report) -> Result<()>;

/// Every fixture that has a check.
const CHECKS: &[(Format, &str, Check)] = &[
    (Format::Single, "vit", vit::tokens_only),
    (Format::Single, "vit_p8", vit::tokens_only),
    (Format::Single, "droppath", vit::drop_path),
    (Format::Single, "matching", matching::selfpatch),
    (Format::Single, "aggregation", aggregation::selfpatch),
    (Format::Single, "heads", heads::dino_heads),
    (Format::Single, "loss_2p2", losses::selfpatch),
    (Format::Single, "loss_2p8", losses::selfpatch),
    (Format::Single, "schedules", schedules::selfpatch),
    (Format::Single, "augment", augment::selfpatch),
    (Format::Single, "rrc_params", augment::windows),
    (Format::Single, "label_propagation", davis::propagation),
    (Format::Single, "davis_io", davis::frames),
    (Format::Single, "davis_metrics", davis::metrics),
    (Format::Single, "knn", knn::dino),
    (Format::Single, "train_a", train::steps),
    (Format::Single, "train_b", train::steps),
    (Format::Manifest, "vit_cls", objectives::vit_cls),
    (Format::Manifest, "vit_tokens_selfpatch", objectives::vit_tokens),
    (Format::Manifest, "neighbours", objectives::neighbours),
    (Format::Manifest, "dino", objectives::dino),
    (Format::Manifest, "selfpatch_total_dino", objectives::total),
];

/// What `parity` was asked to do.
#[derive(clap::Args)]
pub struct Args {
    /// Folders of fixtures; folders of such folders are searched too
    #[arg(long, value_name = "DIR", num_args = 1.., default_value = "crates/cli/tests/fixtures")]
    fixtures: Vec<PathBuf>,
    /// Only these fixtures (NAME or FOLDER/NAME)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the checks, prints the result, and says whether everything passed.
pub fn run(args: &Args) -> Result<bool> {
    let outcome = checked(&args.fixtures, &args.only, &Computing::reference())?;
    match args.json {
        true => say!("{}", serde_json::to_string_pretty(&outcome)?),
        false => outcome.print(),
    }
    Ok(outcome.passed)
}

/// Compares with all fixtures below `folders`, or with those that `only` names.
pub fn checked(folders: &[PathBuf], only: &[String], computing: &Computing) -> Result<Outcome> {
    let mut found = Vec::new();
    for folder in folders {
        if !folder.is_dir() {
            bail!("{}: is no folder; run this in the repository, or pass --fixtures DIR", folder.display());
        }
        let before = found.len();
        search(folder, &mut found)?;
        if found.len() == before {
            bail!("{}: holds no fixtures (NAME.safetensors with NAME.json or manifest.json)", folder.display());
        }
    }
    if !only.is_empty() {
        for name in only {
            if !found.iter().any(|f| f.is_called(name)) {
                let names = found.iter().map(|f| f.name.as_str());
                bail!("--only: there is no fixture {name:?}{}", selfpatch_train::did_you_mean(name, names));
            }
        }
        found.retain(|f| only.iter().any(|name| f.is_called(name)));
    }
    let check_of =
        |place: &fixture::Place| CHECKS.iter().find(|(format, name, _)| *format == place.format && *name == place.name);
    let mut report = Report::new(computing);
    for place in &found {
        report.begin(&place.label());
        match check_of(place) {
            // `--only heads` means the one that can be checked, where two folders have one each.
            None if !only.is_empty() && found.iter().any(|f| f.name == place.name && check_of(f).is_some()) => {
                report.passed_over();
            }
            None => report.no_check(),
            Some((_, _, check)) => {
                let compute = || check(&Fixture::read(place, computing)?, &mut report);
                let outcome = autocast(computing.precision, compute);
                match outcome {
                    Err(e) => report.failed(&crate::error::plain(&e)),
                    Ok(()) if report.is_silent() => report.failed("the fixture holds nothing to compare"),
                    Ok(()) => {}
                }
            }
        }
    }
    Ok(report.outcome())
}

/// Adds the fixtures of `folder` and of its sub-folders, by name.
fn search(folder: &Path, found: &mut Vec<fixture::Place>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    let manifest = folder.join("manifest.json").is_file();
    for path in paths {
        if path.is_dir() {
            search(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "safetensors") {
            found.extend(fixture::Place::of(&path, manifest));
        } else if path.extension().is_some_and(|e| e == "json") && !path.with_extension("safetensors").exists() {
            found.extend(fixture::Place::json_only(&path, manifest));
        }
    }
    Ok(())
}
