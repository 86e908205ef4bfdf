//! A table of reports in plain text.

use crate::{DavisReport, Scores};
use std::fmt::Write;

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The model or method that was scored.
    pub label: &'a str,
    /// The scores of the row.
    pub report: &'a DavisReport,
    /// Whether rows for the videos follow, indented.
    pub videos: bool,
}

/// A table of reports in percent: J&F, J and F.
pub fn table(reports: &[Row]) -> String {
    let mut rows: Vec<(String, Scores)> = Vec::new();
    for Row { label, report, videos } in reports {
        rows.push(((*label).to_owned(), report.global));
        if *videos {
            let videos = report.sequences.iter();
            rows.extend(videos.map(|(name, report)| (format!("  {name}"), report.scores)));
        }
    }
    let width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let mut text = format!("{:width$}  {:>6}  {:>6}  {:>6}\n", "", "J&F", "J", "F");
    for (label, scores) in rows {
        let [jf, j, f] = [scores.jf, scores.j, scores.f].map(|x| x * 100.0);
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{label:width$}  {jf:6.2}  {j:6.2}  {f:6.2}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SequenceReport;

    #[test]
    fn columns_line_up() {
        let scores = |j: f64, f: f64| Scores { jf: (j + f) / 2.0, j, jr: 0.0, jd: 0.0, f, fr: 0.0, fd: 0.0 };
        let bear = |scores| SequenceReport { scores, frames: Vec::new(), objects: Vec::new() };
        let report =
            |x| DavisReport { global: scores(x, 1.0), sequences: vec![("bear".into(), bear(scores(x, 0.25)))] };
        let (a, b) = (report(0.5), report(0.03125));
        let expected = [
            "            J&F       J       F",
            "trained   75.00   50.00  100.00",
            "  bear    37.50   50.00   25.00",
            "random    51.56    3.12  100.00",
            "  bear    14.06    3.12   25.00",
        ];
        let row = |label, report, videos| Row { label, report, videos };
        let text = table(&[row("trained", &a, true), row("random", &b, true)]);
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert_eq!(table(&[row("trained", &a, false)]).lines().count(), 2);
    }
}
