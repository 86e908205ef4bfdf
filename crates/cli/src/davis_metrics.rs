//! `selfpatch davis-metrics`: J and F of masks that lie in files, whichever program made them.

use crate::about;
use anyhow::{Context, Result, bail};
use selfpatch_datasets::{Mask, decode_binary_mask, decode_mask, natural};
use selfpatch_eval::metrics::SequenceTally;
use selfpatch_eval::results::SavedResults;
use selfpatch_eval::{DavisReport, Facts, Objects, Row, SequenceReport, facts, table};
use selfpatch_output::plain;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Which masks are compared, and where the result goes.
#[derive(clap::Args)]
pub struct Args {
    /// True masks, SEQUENCE/FRAME.png, or the root of DAVIS; first and last of a sequence are not scored
    #[arg(long, value_name = "DIR")]
    annotations: PathBuf,
    /// Masks to score, SEQUENCE/FRAME.png
    #[arg(long, value_name = "DIR")]
    results: PathBuf,
    /// 2016: whatever is not background is one object
    #[arg(long, default_value = "2017", value_parser = ["2017", "2016"])]
    year: String,
    /// Only these sequences
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    sequences: Vec<String>,
    /// Count the objects as the official evaluator does: all ids up to the highest of the first mask
    #[arg(long)]
    official: bool,
    /// Write scores.json and the official evaluator's two CSV files there
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// What the CSV files are named after, NAME-SPLIT.csv
    #[arg(long, default_value = "val")]
    split: String,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Scores sequence by sequence, prints and writes. False if one could not be scored.
pub fn run(args: &Args) -> Result<bool> {
    let (mut scored, mut unscored, mut failed, mut notes) = (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
    for Sequence { name, folder } in sequences(args)? {
        let mut said = Vec::new();
        let outcome = score(args, &folder, &mut said);
        notes.extend(said.into_iter().map(|note| (name.clone(), note)));
        match outcome {
            Ok(Some(report)) => scored.push((name, report)),
            Ok(None) => unscored.push(name),
            Err(e) => _ = failed.insert(name, plain(e.as_ref())),
        }
    }
    for name in &unscored {
        note!("note: {name} has fewer than three annotated frames and is not scored");
    }
    for (name, note) in &notes {
        note!("note: sequence {name}: {note}");
    }
    for (name, reason) in &failed {
        note!("error: sequence {name}: {reason}");
    }
    if scored.is_empty() {
        bail!("no sequence could be scored");
    }
    let report = DavisReport::of(scored);
    let label = args.results.display().to_string();
    if args.json {
        let mut json = serde_json::to_value(&report)?;
        json["notes"] = json!(notes);
        say!("{}", serde_json::to_string_pretty(&json)?);
    } else {
        say!("{}", table(&[Row { label: &label, report: &report, videos: true }]).trim_end());
    }
    if let Some(folder) = &args.output_dir {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        // As `eval-davis` does, so that its report can show these beside its own.
        let data = facts(json!({
            "annotations": args.annotations.display().to_string(),
            "results": args.results.display().to_string(),
            "year": args.year,
        }));
        let protocol = facts(json!({ "objects": args.objects().name() }));
        let about = about::now(data, protocol, Facts::new());
        let (random_initialisation, first_mask_copied) = (None, None);
        let failed = failed.clone();
        let saved =
            SavedResults { label, report, unscored, failed, notes, random_initialisation, first_mask_copied, about };
        saved.write(folder, &args.split)?;
    }
    Ok(failed.is_empty())
}

/// A folder of annotations.
struct Sequence {
    name: String,
    folder: PathBuf,
}

/// The folders that hold masks, by name; of those, the ones that are wanted.
fn sequences(args: &Args) -> Result<Vec<Sequence>> {
    for folder in [&args.annotations, &args.results] {
        if !folder.is_dir() {
            bail!("{}: is no folder", folder.display());
        }
    }
    let below_root = args.annotations.join("Annotations/480p");
    let root = if below_root.is_dir() { &below_root } else { &args.annotations };
    let mut all = Vec::new();
    for name in names(root)? {
        let folder = root.join(&name);
        if folder.is_dir() && !masks(&folder)?.is_empty() {
            all.push(Sequence { name: name.to_string_lossy().into_owned(), folder });
        }
    }
    if all.is_empty() {
        bail!("{}: has no folders of PNG masks; SEQUENCE/FRAME.png is expected", root.display());
    }
    for name in &args.sequences {
        if !all.iter().any(|s| s.name == *name) {
            let names = all.iter().map(|s| s.name.as_str());
            bail!("--sequences: there is no sequence {name:?}{}", selfpatch_train::did_you_mean(name, names));
        }
    }
    all.retain(|s| args.sequences.is_empty() || args.sequences.contains(&s.name));
    Ok(all)
}

impl Args {
    fn objects(&self) -> Objects {
        if self.official { Objects::Official } else { Objects::Shown }
    }
}

/// Scores one sequence, a pair of masks at a time; `None` if it has no frame between first and last. What is not
/// counted is told in `notes`.
fn score(args: &Args, annotations: &Path, notes: &mut Vec<String>) -> Result<Option<SequenceReport>> {
    let frames = masks(annotations)?;
    let [first, scored @ .., _] = &frames[..] else { return Ok(None) };
    if scored.is_empty() {
        return Ok(None);
    }
    let first = annotations.join(first);
    let mask = read(args, &first)?;
    let objects = args.objects().of(&mask);
    if objects.is_empty() {
        bail!("{} shows no object, so there is nothing to score", first.display());
    }
    let results = args.results.join(annotations.file_name().unwrap_or_default());
    notes.extend(args.objects().note(&mask));
    let highest = objects.last().copied().unwrap_or(0);
    let mut tally = SequenceTally::new(objects);
    for frame in scored {
        let (truth, guess) = (annotations.join(frame), results.join(frame));
        if !guess.is_file() {
            bail!("{} is missing", guess.display());
        }
        let (t, g) = (read(args, &truth)?, read(args, &guess)?);
        if (t.width, t.height) != (g.width, g.height) {
            let (truth, guess) = (truth.display(), guess.display());
            bail!("{truth} has {} x {} pixels, but {guess} has {} x {}", t.width, t.height, g.width, g.height);
        }
        if args.official
            && let Some(id) = g.ids.iter().max().filter(|id| **id > highest)
        {
            bail!(
                "{} has the id {id}, but the highest of the first mask is {highest}: the official evaluator gives no \
                 number then; without --official such ids are background",
                guess.display()
            );
        }
        tally.push(&t, &g)?;
    }
    let list = |ids: &BTreeSet<u8>| ids.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let [later, extra] = tally.others();
    if !later.is_empty() {
        notes.push(format!("the ids {} appear after the first frame and are not scored", list(later)));
    }
    if !extra.is_empty() {
        notes.push(format!(
            "the results have the ids {}, which the first mask lacks: they count as background",
            list(extra)
        ));
    }
    let stem = |frame: &OsString| Path::new(frame).with_extension("").display().to_string();
    Ok(Some(SequenceReport::of(scored.iter().map(stem).collect(), tally.ids(), tally.values())))
}

fn read(args: &Args, path: &Path) -> Result<Mask> {
    Ok(if args.year == "2016" { decode_binary_mask(path)? } else { decode_mask(path)? })
}

/// Names of the PNG files in `folder`, in the order of the numbers in them.
fn masks(folder: &Path) -> Result<Vec<OsString>> {
    let mut names = names(folder)?;
    names.retain(|name| Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case("png")));
    names.sort_by(|a, b| {
        natural(Path::new(a).with_extension("").as_os_str(), Path::new(b).with_extension("").as_os_str())
    });
    Ok(names)
}

/// Names in `folder` that do not begin with a dot, sorted.
fn names(folder: &Path) -> Result<Vec<OsString>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let names = entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>();
    let mut names = names.with_context(|| folder.display().to_string())?;
    names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
    names.sort();
    Ok(names)
}
