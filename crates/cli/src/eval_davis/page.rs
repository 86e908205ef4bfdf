//! `report.html`: results of one or several evaluations on one page that can be sent to someone.
//!
//! One file without scripts and without a single outside resource; pictures are part of it.

mod chart;
mod pictures;
mod scores;
#[cfg(test)]
mod tests;

use super::results::Saved;
use crate::about::About;
use anyhow::{Result, bail};
use pictures::Album;
use selfpatch_datasets::VideoSource;
use selfpatch_eval::{DavisReport, Scores, SequenceReport};
use selfpatch_train::telemetry::html::{document, escape};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Results of one evaluation.
pub struct Run {
    /// What was evaluated.
    pub label: String,
    /// Where its masks are.
    pub folder: PathBuf,
    /// Its scores.
    pub report: DavisReport,
    /// Sequences with too few annotations to be scored.
    pub unscored: Vec<String>,
    /// Sequences that could not be carried through, and why.
    pub failed: Vec<(String, String)>,
    /// What of a sequence was not used, or counted otherwise than elsewhere.
    pub notes: Vec<(String, String)>,
    /// What its scores are to be compared with: a name and the scores, if it has them.
    pub beside: Vec<(&'static str, Option<DavisReport>)>,
    /// What the scores belong to.
    pub about: About,
}

/// Reads the results that an evaluation left in `folder`.
pub fn read_run(folder: &Path) -> Result<Run> {
    let Saved { label, report, unscored, failed, notes, random_initialisation, first_mask_copied, about } =
        Saved::read(folder)?;
    let beside = vec![("random initialisation", random_initialisation), ("first mask copied", first_mask_copied)];
    let (folder, failed) = (folder.to_path_buf(), failed.into_iter().collect());
    Ok(Run { label, folder, report, unscored, failed, notes, beside, about })
}

/// A sequence in all runs.
struct Sequence<'a> {
    name: &'a str,
    /// Its scores in each run, where it has some.
    reports: Vec<Option<&'a SequenceReport>>,
    /// Names of the video's frames; none where `videos` lack it or cannot read it, as then is said in
    /// [`Run::failed`].
    frames: Vec<String>,
}

impl Sequence<'_> {
    /// The scores of each run under `pick`.
    fn scores(&self, pick: impl Fn(&SequenceReport) -> Option<Scores>) -> Vec<Option<Scores>> {
        self.reports.iter().map(|report| report.and_then(&pick)).collect()
    }

    fn is_scored(&self) -> bool {
        self.reports.iter().any(Option::is_some)
    }

    /// Which frame of the video is called `name`.
    fn index(&self, name: &str) -> Option<usize> {
        self.frames.iter().position(|frame| frame == name)
    }
}

/// The page as text: `runs` side by side, the first is what the others are compared with. Masks are read
/// from the folders of the runs; a picture without one is left out.
pub fn page(runs: &[Run], videos: &dyn VideoSource) -> Result<String> {
    if runs.is_empty() {
        bail!("there are no results to show");
    }
    let sequences = sequences(runs, videos)?;
    let album = Album::new(runs, videos, &sequences);
    let title = runs.iter().map(|r| escape(&r.label)).collect::<Vec<_>>().join(" · ");
    let mut body = tiles(runs)?;
    body += &problems(runs)?;

    let mut rows = vec![(scores::ALL.to_owned(), runs.iter().map(|run| Some(run.report.global)).collect())];
    rows.extend(beside(runs));
    rows.extend(sequences.iter().filter(|s| s.is_scored()).map(|s| (s.name.to_owned(), s.scores(|r| Some(r.scores)))));
    body += "<h2>Scores</h2><p class=dim>In percent. J is the overlap of regions, F the agreement of outlines; recall is \
             the share of frames above 50, decay the loss from the first to the last quarter of a video (less is better). \
             Random initialisation is the same architecture without training, first mask copied no model at all: what \
             was learned is the difference to them.";
    if runs.len() > 1 {
        body += " Below a score: its difference to A. The best of a row is marked.";
    }
    write!(body, "</p>{}", scores::table("Sequence", runs.len(), &rows)?)?;
    body += &circumstances(runs)?;
    body += &album.worst()?;

    body += "<h2>Sequences</h2><p class=dim>Means over objects of every scored frame; frames from the first, whose mask \
             is given, to the last. Animations, where they were written, lie in <code>overlays/</code> of a run’s folder.</p>";
    if sequences.len() > pictures::STRIPS {
        write!(body, "<p class=dim>Of {} sequences, the first {} show frames.</p>", sequences.len(), pictures::STRIPS)?;
    }
    body += "<div class=grid>";
    for (number, sequence) in sequences.iter().enumerate() {
        let content = [chart::chart(sequence)?, album.strips(number)?, objects(sequence)?].concat();
        if !content.is_empty() {
            write!(body, "<section><h3>{}</h3>{content}</section>", escape(sequence.name))?;
        }
    }
    body += "</div>";
    let body = format!(
        "<h1>Video label propagation</h1>
{body}"
    );
    Ok(document(&format!("{title} · video label propagation"), None, STYLE, &body))
}

const STYLE: &str = include_str!("page/style.css");

/// The sequences of all runs, in the order of the first.
fn sequences<'a>(runs: &'a [Run], videos: &dyn VideoSource) -> Result<Vec<Sequence<'a>>> {
    let known = videos.sequences();
    let mut names: Vec<&str> = Vec::new();
    for run in runs {
        let scored = run.report.sequences.iter().map(|(name, _)| name.as_str());
        for name in scored.chain(run.unscored.iter().map(String::as_str)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let sequence = |name: &'a str| -> Result<Sequence<'a>> {
        let report = |run: &'a Run| run.report.sequences.iter().find(|(n, _)| n == name).map(|(_, report)| report);
        let count = if known.iter().any(|k| k == name) { videos.frames(name).unwrap_or(0) } else { 0 };
        let frames = (0..count).map(|i| videos.frame_name(name, i)).collect::<Result<_, _>>()?;
        Ok(Sequence { name, reports: runs.iter().map(report).collect(), frames })
    };
    names.into_iter().map(sequence).collect()
}

/// What a run is called in tables and captions.
fn letter(run: usize) -> char {
    // The remainder is below 26.
    char::from(b'A' + (run % 26) as u8)
}

fn tiles(runs: &[Run]) -> Result<String> {
    let mut html = String::from("<dl>");
    for (number, run) in runs.iter().enumerate() {
        let scored = &run.report.sequences;
        let objects: usize = scored.iter().map(|(_, s)| s.objects.len()).sum();
        // Labels can be the same: one network, carried on in two ways.
        let (mark, folder) = if runs.len() > 1 {
            let mark = format!("<b class=\"run c{}\">{}</b> ", number % 6, letter(number));
            (mark, format!("<dt>from {}</dt>", escape(&run.folder.display().to_string())))
        } else {
            (String::new(), String::new())
        };
        write!(
            html,
            "<div><dt>{mark}{}</dt><dd>{} <span>J&amp;F</span></dd><dt>{} of {} sequences scored, {objects} objects</dt>{folder}</div>",
            escape(&run.label),
            percent(run.report.global.jf),
            scored.len(),
            scored.len() + run.unscored.len() + run.failed.len(),
        )?;
    }
    Ok(html + "</dl>")
}

/// Rows for what the scores of each run are to be compared with.
fn beside(runs: &[Run]) -> Vec<(String, Vec<Option<Scores>>)> {
    let names = runs.iter().flat_map(|run| &run.beside).map(|(name, _)| *name).collect::<BTreeSet<_>>();
    let scores = |run: &Run, name: &str| {
        let (_, report) = run.beside.iter().find(|(own, _)| *own == name)?;
        report.as_ref().map(|report| report.global)
    };
    let row = |name: &str| (name.to_owned(), runs.iter().map(|run| scores(run, name)).collect::<Vec<_>>());
    names.into_iter().rev().map(row).filter(|(_, scores)| scores.iter().any(Option::is_some)).collect()
}

/// Data, protocol, weights, date and version of each run.
fn circumstances(runs: &[Run]) -> Result<String> {
    let mut rows = String::new();
    for (number, run) in runs.iter().enumerate() {
        for (name, text) in run.about.lines() {
            let run = if runs.len() > 1 { format!("<td>{}</td>", letter(number)) } else { String::new() };
            write!(rows, "<tr>{run}<td>{name}</td><td>{}</td></tr>", escape(&text))?;
        }
    }
    if rows.is_empty() {
        return Ok(rows);
    }
    Ok(format!("<h2>What was measured</h2><div class=scroll><table class=text>{rows}</table></div>"))
}

/// What could not be scored, and why; what was not used or counted otherwise.
fn problems(runs: &[Run]) -> Result<String> {
    let few = "too few annotated frames: the first and the last do not count";
    let (mut unscored, mut notes) = (String::new(), String::new());
    for (number, run) in runs.iter().enumerate() {
        let letter = if runs.len() > 1 { format!("<td>{}</td>", letter(number)) } else { String::new() };
        let row =
            |name: &str, text: &str| format!("<tr>{letter}<td>{}</td><td>{}</td></tr>", escape(name), escape(text));
        unscored.extend(run.failed.iter().map(|(name, reason)| row(name, reason)));
        unscored.extend(run.unscored.iter().map(|name| row(name, few)));
        notes.extend(run.notes.iter().map(|(name, note)| row(name, note)));
    }
    let letter = if runs.len() > 1 { "<th>Run</th>" } else { "" };
    let section = |title: &str, what: &str, rows: &str| {
        let heading = format!(
            "<h2>{title}</h2><div class=scroll><table class=text><tr>{letter}<th>Sequence</th><th>{what}</th></tr>"
        );
        if rows.is_empty() { String::new() } else { format!("{heading}{rows}</table></div>") }
    };
    Ok(section("Not scored", "Reason", &unscored) + &section("Notes", "Note", &notes))
}

/// The scores of each object, folded away.
fn objects(sequence: &Sequence) -> Result<String> {
    let ids: BTreeSet<u8> = sequence.reports.iter().flatten().flat_map(|r| &r.objects).map(|o| o.id).collect();
    if ids.is_empty() {
        return Ok(String::new());
    }
    let scores = |id: u8| sequence.scores(|r| r.objects.iter().find(|o| o.id == id).map(|o| o.scores));
    let rows: Vec<_> = ids.into_iter().map(|id| (id.to_string(), scores(id))).collect();
    let table = scores::table("Object", sequence.reports.len(), &rows)?;
    Ok(format!("<details><summary>Scores of its objects</summary>{table}</details>"))
}

/// A share in percent, a dash where there is none.
fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1}", share * 100.0) } else { "–".into() }
}
