//! Which curves the page draws.

use super::axis::Axis;
use super::chart::{Chart, Curve, MAX_POINTS, figure};
use crate::telemetry::{Outline, Record};

/// All charts under their headings. A number that no record holds has no chart.
pub fn sections(records: &[Record], outline: &Outline) -> String {
    let steps = Axis::of_steps(records.iter().map(|r| r.step).max().unwrap_or(0));
    let section = |(title, charts): (&str, Vec<Option<Chart>>)| {
        let figures: Vec<String> = charts.iter().flatten().map(|chart| figure(chart, &steps)).collect();
        match figures.is_empty() {
            true => String::new(),
            false => format!("<h2>{title}</h2>\n<div class=\"charts\">\n{}\n</div>", figures.join("\n")),
        }
    };
    let all = [
        ("Course", course(records)),
        ("Measured", measured(records)),
        ("Health over time", health(records, outline)),
        ("Data", data(records)),
    ];
    let sections: Vec<String> = all.into_iter().map(section).filter(|s| !s.is_empty()).collect();
    let note = if records.len() > MAX_POINTS {
        "\n<p class=\"note\">Long curves are thinned to the lowest and highest of neighbouring values.</p>"
    } else {
        ""
    };
    format!("{}{note}", sections.join("\n"))
}

/// What every record holds.
fn course(records: &[Record]) -> Vec<Option<Chart>> {
    let curve = |label, value: fn(&Record) -> f64| {
        let points: Vec<(f64, f64)> = records.iter().map(|r| (r.step as f64, value(r))).collect();
        Some(Curve { label, last: points.last()?.1, points })
    };
    let chart = |title, unit, curves: Vec<Option<Curve>>| {
        Some(Chart { title, unit, curves: curves.into_iter().flatten().collect(), marks: vec![] })
    };
    vec![
        chart(
            "Training loss",
            "loss",
            vec![
                curve("total", |r| r.train_loss),
                curve("class", |r| r.train_clsloss),
                curve("patch", |r| r.train_patchloss),
            ],
        ),
        chart("Learning rate", "learning rate", vec![curve("learning rate", |r| r.train_lr)]),
        chart("Weight decay", "weight decay", vec![curve("weight decay", |r| r.train_wd)]),
        chart("Throughput", "images per second", vec![curve("images/s", |r| r.images_per_second)]),
    ]
}

/// A chart of what only some records hold; those without are no gap.
fn some(
    records: &[Record],
    (title, label, unit): (&'static str, &'static str, &'static str),
    value: fn(&Record) -> Option<f64>,
) -> Option<Chart> {
    let points: Vec<(f64, f64)> = records.iter().filter_map(|r| Some((r.step as f64, value(r)?))).collect();
    let last = points.last()?.1;
    Some(Chart { title, unit, curves: vec![Curve { label, last, points }], marks: vec![] })
}

fn measured(records: &[Record]) -> Vec<Option<Chart>> {
    vec![
        some(records, ("Teacher on videos", "J&amp;F", "J&amp;F, 0 to 1"), |r| r.davis_jf),
        some(records, ("Teacher by nearest neighbours", "top-1", "top-1, 0 to 1"), |r| r.knn_top1),
    ]
}

fn health(records: &[Record], outline: &Outline) -> Vec<Option<Chart>> {
    let mut entropy = some(records, ("Teacher entropy", "entropy", "nats"), |r| r.teacher_entropy);
    if let Some((chart, k)) = entropy.as_mut().zip(outline.prototypes) {
        chart.marks = vec![(0.0, "0: one answer to all"), ((k as f64).ln(), "ln K: no answer")];
    }
    vec![
        entropy,
        some(records, ("Divergence of the student", "KL", "nats"), |r| r.teacher_student_kl),
        some(records, ("Prototypes used", "part", "part of those possible"), |r| r.prototypes_used),
        some(records, ("Spread of features", "spread", "1 even, 0 all alike"), |r| r.feature_std),
        some(records, ("Rank of features", "rank", "effective rank"), |r| r.feature_rank),
        some(records, ("Gradient norm", "norm", "norm before clipping"), |r| r.grad_norm),
        some(records, ("Patch agreement", "cosine", "mean cosine"), |r| r.patch_agreement),
    ]
}

fn data(records: &[Record]) -> Vec<Option<Chart>> {
    vec![
        some(records, ("Waiting for data", "part", "part of the step"), |r| r.data_wait),
        some(records, ("Skipped samples", "samples", "samples"), |r| r.skipped.map(|n| n as f64)),
    ]
}
