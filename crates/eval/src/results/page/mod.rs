//! `report.html`: results of one or several evaluations on one page that can be sent to someone.
//!
//! One file without scripts and without a single outside resource; pictures are part of it.

mod chart;
mod pictures;
mod scores;
#[cfg(test)]
mod tests;
mod words;

use super::run::{Run, Sequence, sequences};
use crate::error::Error;
use crate::scores::Scores;
use pictures::Album;
use selfpatch_datasets::VideoSource;
use selfpatch_figures::{document, escape};
use std::collections::BTreeSet;
use words::{letter, percent};

/// The page as text: `runs` side by side, the first is what the others are compared with. Masks are read
/// from the folders of the runs; a picture without one is left out.
pub fn page(runs: &[Run], videos: &dyn VideoSource) -> Result<String, Error> {
    let sequences = sequences(runs, videos)?;
    let album = Album::new(runs, videos, &sequences);
    let title = runs.iter().map(|r| escape(&r.label)).collect::<Vec<_>>().join(" · ");
    let mut body = tiles(runs);
    body += &problems(runs);

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
    body += &format!("</p>{}", scores::table("Sequence", runs.len(), &rows));
    body += &circumstances(runs);
    body += &album.worst()?;

    body += "<h2>Sequences</h2><p class=dim>Means over objects of every scored frame; frames from the first, whose mask \
             is given, to the last. Animations, where they were written, lie in <code>overlays/</code> of a run’s folder.</p>";
    if sequences.len() > pictures::STRIPS {
        body +=
            &format!("<p class=dim>Of {} sequences, the first {} show frames.</p>", sequences.len(), pictures::STRIPS);
    }
    body += "<div class=grid>";
    for (number, sequence) in sequences.iter().enumerate() {
        let content = [chart::chart(sequence), album.strips(number)?, objects(sequence)].concat();
        if !content.is_empty() {
            body += &format!("<section><h3>{}</h3>{content}</section>", escape(sequence.name));
        }
    }
    body += "</div>";
    let body = format!(
        "<h1>Video label propagation</h1>
{body}"
    );
    Ok(document(&format!("{title} · video label propagation"), None, STYLE, &body))
}

const STYLE: &str = include_str!("style.css");

fn tiles(runs: &[Run]) -> String {
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
        html += &format!(
            "<div><dt>{mark}{}</dt><dd>{} <span>J&amp;F</span></dd><dt>{} of {} sequences scored, {objects} objects</dt>{folder}</div>",
            escape(&run.label),
            percent(run.report.global.jf),
            scored.len(),
            scored.len() + run.unscored.len() + run.failed.len(),
        );
    }
    html + "</dl>"
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
fn circumstances(runs: &[Run]) -> String {
    let mut rows = String::new();
    for (number, run) in runs.iter().enumerate() {
        for (name, text) in run.about.lines() {
            let run = if runs.len() > 1 { format!("<td>{}</td>", letter(number)) } else { String::new() };
            rows += &format!("<tr>{run}<td>{name}</td><td>{}</td></tr>", escape(&text));
        }
    }
    if rows.is_empty() {
        return rows;
    }
    format!("<h2>What was measured</h2><div class=scroll><table class=text>{rows}</table></div>")
}

/// What could not be scored, and why; what was not used or counted otherwise.
fn problems(runs: &[Run]) -> String {
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
    section("Not scored", "Reason", &unscored) + &section("Notes", "Note", &notes)
}

/// The scores of each object, folded away.
fn objects(sequence: &Sequence) -> String {
    let ids: BTreeSet<u8> = sequence.reports.iter().flatten().flat_map(|r| &r.objects).map(|o| o.id).collect();
    if ids.is_empty() {
        return String::new();
    }
    let scores = |id: u8| sequence.scores(|r| r.objects.iter().find(|o| o.id == id).map(|o| o.scores));
    let rows: Vec<_> = ids.into_iter().map(|id| (id.to_string(), scores(id))).collect();
    let table = scores::table("Object", sequence.reports.len(), &rows);
    format!("<details><summary>Scores of its objects</summary>{table}</details>")
}
