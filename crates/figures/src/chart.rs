//! One chart as an inline SVG.

use crate::axis::{Axis, drawable};
use crate::words::number;

/// A curve of more points than this is thinned.
pub const MAX_POINTS: usize = 500;

/// One line of a chart.
pub struct Curve {
    /// Name of the curve in the legend.
    pub label: &'static str,
    /// The newest value, finite or not.
    pub last: f64,
    /// Step and value, in order.
    pub points: Vec<(f64, f64)>,
}

// The view box, small so that its text stays legible when a phone scales it, and the
// plot's edges within.
const VIEW: (f64, f64) = (420.0, 250.0);
const LEFT: f64 = 68.0;
const RIGHT: f64 = 408.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 208.0;

/// What one chart shows.
pub struct Chart {
    /// Heading of the chart.
    pub title: &'static str,
    /// What the vertical axis counts.
    pub unit: &'static str,
    /// At most three.
    pub curves: Vec<Curve>,
    /// Values that the curves should be compared with, each a dashed line with a name.
    pub marks: Vec<(f64, &'static str)>,
}

/// The chart as a figure with an inline SVG.
pub fn figure(chart: &Chart, steps: &Axis) -> String {
    let Chart { title, unit, curves, marks } = chart;
    let mut legend = String::new();
    let mut lines = String::new();
    let mut gaps = 0;
    let drawn = curves.iter().flat_map(|c| &c.points).map(|p| p.1);
    let values = Axis::of_values(drawn.chain(marks.iter().map(|m| m.0)));
    for (index, curve) in curves.iter().enumerate() {
        let (label, last) = (curve.label, number(curve.last));
        legend += &format!(r#"<span><i class="c{index}"></i>{label} {last}</span>"#);
        gaps += curve.points.iter().filter(|p| !drawable(p.1)).count();
        let path = path(&thin(&curve.points), steps, &values);
        lines += &format!(r#"<path class="c{index}" d="{path}"></path>"#);
    }
    let note = match gaps {
        0 => String::new(),
        1 => "<small>1 value was non-finite and is left out.</small>".to_owned(),
        n => format!("<small>{n} values were non-finite and are left out.</small>"),
    };
    let mut grid = String::new();
    let mut labels = String::new();
    for (value, text) in &steps.ticks {
        let x = steps.place(*value, LEFT, RIGHT);
        grid += &format!("M{x:.1} {TOP}V{BOTTOM}");
        let y = BOTTOM + 16.0;
        labels += &format!(r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{text}</text>"#);
    }
    for (value, text) in &values.ticks {
        let y = values.place(*value, BOTTOM, TOP);
        grid += &format!("M{LEFT} {y:.1}H{RIGHT}");
        let (x, y) = (LEFT - 6.0, y + 4.0);
        labels += &format!(r#"<text x="{x}" y="{y:.1}" text-anchor="end">{text}</text>"#);
    }
    for (value, name) in marks {
        let y = values.place(*value, BOTTOM, TOP);
        lines += &format!(r#"<path class="mark" d="M{LEFT} {y:.1}H{RIGHT}"></path>"#);
        // Above the line, or below it at the upper edge.
        let y = if y < TOP + 14.0 { y + 13.0 } else { y - 3.0 };
        labels += &format!(r#"<text x="{RIGHT}" y="{y:.1}" text-anchor="end">{name}</text>"#);
    }
    let (width, height) = VIEW;
    let (x, y) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
    let base = height - 6.0;
    format!(
        r#"<figure><figcaption><b>{title}</b>{legend}{note}</figcaption>
<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title} over finished steps">
<path class="grid" d="{grid}"></path>
{labels}
<text x="{x}" y="{base}" text-anchor="middle">finished steps</text>
<text transform="translate(11 {y}) rotate(-90)" text-anchor="middle">{unit}</text>
{lines}
</svg></figure>"#
    )
}

/// At most [`MAX_POINTS`] of `points`. Of each group of neighbours the lowest and the
/// highest stay, so that a spike is never lost; a group with nothing drawable stays a gap.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(MAX_POINTS);
    for group in points.chunks(points.len().div_ceil(MAX_POINTS / 2)) {
        let good = || group.iter().enumerate().filter(|(_, p)| drawable(p.1));
        let low = good().min_by(|a, b| a.1.1.total_cmp(&b.1.1));
        let high = good().max_by(|a, b| a.1.1.total_cmp(&b.1.1));
        match (low, high) {
            (Some((i, &low)), Some((j, &high))) => {
                kept.push(if i <= j { low } else { high });
                if i != j {
                    kept.push(if i <= j { high } else { low });
                }
            }
            _ => kept.extend(group.first()),
        }
    }
    kept
}

/// The path's drawing commands: a new stroke after each gap, a dash for a lone point.
fn path(points: &[(f64, f64)], steps: &Axis, values: &Axis) -> String {
    let mut path = String::new();
    for stroke in points.split(|p| !drawable(p.1)) {
        for (index, &(step, value)) in stroke.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let x = steps.place(step, LEFT, RIGHT);
            let y = values.place(value, BOTTOM, TOP);
            path += &format!("{command}{x:.1} {y:.1}");
        }
        if stroke.len() == 1 {
            path += "m-2.5 0h5";
        }
    }
    path
}
