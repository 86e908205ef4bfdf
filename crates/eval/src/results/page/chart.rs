//! J and F of every frame of a sequence, as an inline SVG.

use super::super::run::Sequence;
use super::words::{letter, percent};
use crate::scores::SequenceReport;
use selfpatch_figures::escape;

// The view box, small so that its text stays legible when a phone scales it, and the plot's edges within.
const VIEW: (f64, f64) = (420.0, 190.0);
const LEFT: f64 = 34.0;
const RIGHT: f64 = 410.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 158.0;

/// Means over the objects: `(J, F)` of each scored frame.
pub fn means(report: &SequenceReport) -> Vec<(f64, f64)> {
    let count = report.objects.len() as f64;
    let mean = |frame: usize| {
        let value = |values: &[f64]| values.get(frame).copied().unwrap_or(f64::NAN);
        let sums = report.objects.iter().map(|o| (value(&o.j), value(&o.f)));
        let (j, f) = sums.fold((0.0, 0.0), |(j, f), (a, b)| (j + a, f + b));
        (j / count, f / count)
    };
    (0..report.frames.len()).map(mean).collect()
}

/// A curve for J and one for F of every run; nothing where none has scores.
pub fn chart(sequence: &Sequence) -> String {
    if !sequence.is_scored() {
        return String::new();
    }
    let scored = sequence.reports.iter().flatten().map(|r| r.frames.len()).max().unwrap_or(0);
    // The frame after the scored ones is the last where the video itself is not at hand.
    let last = sequence.frames.len().max(scored + 2) - 1;
    let across = |index: usize| LEFT + index as f64 / last as f64 * (RIGHT - LEFT);
    let down = |value: f64| BOTTOM + value * (TOP - BOTTOM);

    let (mut legend, mut lines) = (String::new(), String::new());
    for (run, report) in sequence.reports.iter().enumerate() {
        let Some(report) = report else { continue };
        let colour = run % 6;
        let name = if sequence.reports.len() > 1 { format!("{}:", letter(run)) } else { String::new() };
        let (j, f) = (percent(report.scores.j), percent(report.scores.f));
        legend += &format!(r#"<span>{name}<i class="c{colour}"></i>J {j}<i class="f c{colour}"></i>F {f}</span>"#);
        let index = |i: usize| sequence.index(&report.frames[i]).unwrap_or(i + 1);
        let means: Vec<(f64, (f64, f64))> =
            means(report).into_iter().enumerate().map(|(i, value)| (across(index(i)), value)).collect();
        let j = path(means.iter().map(|&(x, (j, _))| (x, j)), down);
        let f = path(means.iter().map(|&(x, (_, f))| (x, f)), down);
        lines += &format!(r#"<path class="c{colour}" d="{j}"></path><path class="f c{colour}" d="{f}"></path>"#);
    }
    let (mut grid, mut labels) = (String::new(), String::new());
    for value in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let y = down(value);
        grid += &format!("M{LEFT} {y}H{RIGHT}");
        labels += &format!(r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#, LEFT - 6.0, y + 4.0, value * 100.0);
    }
    for index in (0..=last).step_by(step(last)) {
        let x = across(index);
        labels += &format!(r#"<text x="{x:.1}" y="{}" text-anchor="middle">{index}</text>"#, BOTTOM + 15.0);
    }
    let (width, height) = VIEW;
    let (middle, base, name) = ((LEFT + RIGHT) / 2.0, height - 3.0, escape(sequence.name));
    format!(
        r#"<figure class="chart"><figcaption>{legend}</figcaption><svg viewBox="0 0 {width} {height}" role="img" aria-label="J and F per frame of {name}"><path class="grid" d="{grid}"></path>{labels}<text x="{middle}" y="{base}" text-anchor="middle">frame</text>{lines}</svg></figure>"#
    )
}

/// A round distance between the labels of frames that leaves about ten at most.
fn step(last: usize) -> usize {
    let mut round = (0..).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_usize.pow(power)));
    round.find(|step| last / step <= 10).unwrap_or(last)
}

/// The path's drawing commands: a new stroke after each gap, a dash for a lone point.
fn path(points: impl Iterator<Item = (f64, f64)>, down: impl Fn(f64) -> f64) -> String {
    let points: Vec<(f64, f64)> = points.collect();
    let mut path = String::new();
    for stroke in points.split(|p| !p.1.is_finite()) {
        for (i, &(x, value)) in stroke.iter().enumerate() {
            path += &format!("{}{x:.1} {:.1}", if i == 0 { 'M' } else { 'L' }, down(value));
        }
        if stroke.len() == 1 {
            path += "m-2 0h4";
        }
    }
    path
}
