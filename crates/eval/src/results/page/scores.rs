//! Tables of scores, a column for every run.

use super::words::{letter, percent};
use crate::scores::Scores;
use selfpatch_figures::escape;

struct Metric {
    name: &'static str,
    of: fn(&Scores) -> f64,
    /// 1 where more is better, -1 where less is.
    sign: f64,
}

/// What the means over everything are called.
pub const ALL: &str = "all objects";

const METRICS: [Metric; 7] = [
    Metric { name: "J&amp;F", of: |s| s.jf, sign: 1.0 },
    Metric { name: "J mean", of: |s| s.j, sign: 1.0 },
    Metric { name: "J recall", of: |s| s.jr, sign: 1.0 },
    Metric { name: "J decay", of: |s| s.jd, sign: -1.0 },
    Metric { name: "F mean", of: |s| s.f, sign: 1.0 },
    Metric { name: "F recall", of: |s| s.fr, sign: 1.0 },
    Metric { name: "F decay", of: |s| s.fd, sign: -1.0 },
];

/// Names and what each run has there. With several runs, all but the first tell their difference to it
/// and the best are marked.
pub fn table(heading: &str, runs: usize, rows: &[(String, Vec<Option<Scores>>)]) -> String {
    let mut html = format!("<div class=scroll><table><thead><tr><th>{heading}</th>");
    for Metric { name, .. } in METRICS {
        html += &format!("<th class=lead colspan={runs}>{name}</th>");
    }
    html += "</tr>";
    if runs > 1 {
        html += "<tr><th></th>";
        for run in (0..METRICS.len()).flat_map(|_| 0..runs) {
            let lead = if run == 0 { " class=lead" } else { "" };
            html += &format!("<th{lead}>{}</th>", letter(run));
        }
        html += "</tr>";
    }
    html += "</thead>";
    for (name, scores) in rows {
        let total = if name == ALL { " class=total" } else { "" };
        html += &format!("<tr{total}><th><span>{}</span></th>", escape(name));
        for metric in METRICS {
            let values: Vec<f64> = scores.iter().map(|s| s.as_ref().map_or(f64::NAN, metric.of)).collect();
            cells(&mut html, &metric, &values);
        }
        html += "</tr>";
    }
    html + "</table></div>"
}

fn cells(html: &mut String, metric: &Metric, values: &[f64]) {
    // What looks equal counts as equal.
    let shown = |v: f64| (v * 1000.0).round() * metric.sign;
    let finite = || values.iter().copied().filter(|v| v.is_finite()).map(shown);
    let (worst, best) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    for (run, &value) in values.iter().enumerate() {
        let gain = if run == 0 { 0.0 } else { shown(value) - shown(values[0]) };
        let class = [
            ("lead", run == 0),
            ("best", worst < best && shown(value) == best),
            ("up", gain > 0.0),
            ("down", gain < 0.0),
        ];
        let class: Vec<&str> = class.into_iter().filter_map(|(name, holds)| holds.then_some(name)).collect();
        *html += &format!("<td class=\"{}\">{}", class.join(" "), percent(value));
        if run > 0 && gain.is_finite() {
            let difference = gain * metric.sign / 10.0 + 0.0; // no negative zero
            *html += &format!("<small>{difference:+.1}</small>");
        }
        *html += "</td>";
    }
}
