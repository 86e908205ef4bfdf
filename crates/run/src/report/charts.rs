//! The curves that the page draws.

use crate::{ChartOf, Outline, Record, Section, Sheet};
use selfpatch_figures::{Axis, Chart, Curve, MAX_POINTS, figure};

/// All charts of `sheet` under their headings. A chart whose fields no record holds is left out.
pub fn sections(records: &[Record], outline: &Outline, sheet: &Sheet) -> String {
    let steps = Axis::of_steps(records.iter().map(|r| r.step).max().unwrap_or(0));
    let section = |section: &Section| {
        let charts = section.charts.iter().filter_map(|of| chart(of, records, outline));
        let figures: Vec<String> = charts.map(|chart| figure(&chart, &steps)).collect();
        match figures.is_empty() {
            true => String::new(),
            false => format!("<h2>{}</h2>\n<div class=\"charts\">\n{}\n</div>", section.title, figures.join("\n")),
        }
    };
    let sections: Vec<String> = sheet.sections.iter().map(section).filter(|s| !s.is_empty()).collect();
    let note = if records.len() > MAX_POINTS {
        "\n<p class=\"note\">Long curves are thinned to the lowest and highest of neighbouring values.</p>"
    } else {
        ""
    };
    format!("{}{note}", sections.join("\n"))
}

/// A chart of what the records hold; one that lacks a field is no gap in its curve.
fn chart(of: &ChartOf, records: &[Record], outline: &Outline) -> Option<Chart> {
    let curves = of.curves.iter().filter_map(|curve| {
        let point = |r: &Record| Some((r.step as f64, r.get(curve.field)?));
        let points: Vec<(f64, f64)> = records.iter().filter_map(point).collect();
        Some(Curve { label: curve.label, last: points.last()?.1, points })
    });
    let curves: Vec<Curve> = curves.collect();
    let chart = Chart { title: of.title, unit: of.unit, curves, marks: (of.marks)(outline) };
    (!chart.curves.is_empty()).then_some(chart)
}
