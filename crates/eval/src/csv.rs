//! Reports as the CSV tables that the official `davis2017-evaluation` writes.

use crate::DavisReport;
use std::fmt::Write;

/// `global_results-SET.csv`: the seven numbers over all objects, in 0..1 with three decimals. A number that does not
/// exist, such as a mean over no objects, is an empty field.
pub fn global_csv(report: &DavisReport) -> String {
    let g = report.global;
    let fields = [g.jf, g.j, g.jr, g.jd, g.f, g.fr, g.fd].map(number);
    format!("J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay\n{}\n", fields.join(","))
}

/// `per-sequence_results-SET.csv`: mean J and F of every object, named by its video and its id, `NAME_1`.
pub fn per_sequence_csv(report: &DavisReport) -> String {
    let mut text = "Sequence,J-Mean,F-Mean\n".to_owned();
    for (name, sequence) in &report.sequences {
        for object in &sequence.objects {
            let name = quoted(format!("{name}_{}", object.id));
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "{name},{},{}", number(object.scores.j), number(object.scores.f));
        }
    }
    text
}

fn number(x: f64) -> String {
    if x.is_nan() { String::new() } else { format!("{x:.3}") }
}

/// Quotes a text that contains a comma, a quote or a line break.
fn quoted(text: String) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SequenceReport;

    fn sequence(values: &[f64]) -> SequenceReport {
        let values: Vec<Vec<(f64, f64)>> = values.iter().map(|&v| vec![(v, v / 2.0); 4]).collect();
        SequenceReport::of((1..5).map(|n| n.to_string()).collect(), &[1, 2], &values)
    }

    #[test]
    fn the_official_columns() {
        let report =
            DavisReport::of(vec![("bear".into(), sequence(&[1.0])), ("dogs".into(), sequence(&[0.6254, 0.25]))]);
        let global =
            "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay\n0.469,0.625,0.667,0.000,0.313,0.000,0.000\n";
        assert_eq!(global_csv(&report), global);
        let rows = "Sequence,J-Mean,F-Mean\nbear_1,1.000,0.500\ndogs_1,0.625,0.313\ndogs_2,0.250,0.125\n";
        assert_eq!(per_sequence_csv(&report), rows);
    }

    #[test]
    fn odd_names_are_quoted() {
        let report = DavisReport::of(vec![("a,b".into(), sequence(&[0.5])), ("the \"x\"".into(), sequence(&[0.5]))]);
        let rows = "Sequence,J-Mean,F-Mean\n\"a,b_1\",0.500,0.250\n\"the \"\"x\"\"_1\",0.500,0.250\n";
        assert_eq!(per_sequence_csv(&report), rows);
    }

    #[test]
    fn nothing_scored_leaves_fields_empty() {
        let report = DavisReport::of(Vec::new());
        assert_eq!(global_csv(&report).lines().nth(1), Some(",,,,,,"));
        assert_eq!(per_sequence_csv(&report), "Sequence,J-Mean,F-Mean\n");
    }
}
