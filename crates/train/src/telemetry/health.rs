//! The numbers that tell whether a run learns, each with a plain word.
//!
//! The ranges are those of runs that were measured; they are there to draw a reader's eye, they stop nothing.

use super::ranges::{HEALTHY, Unit};
use super::words::brief;
use super::{Outline, Record};

/// Records among which the usual norm of gradients is looked for.
const RECENT: usize = 100;
/// Records over which the waiting for data is averaged: that of one step varies much.
const WAITS: usize = 20;

/// One number, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What it is.
    pub label: &'static str,
    /// The newest value.
    pub value: f64,
    /// Where it lies in a healthy run, in words.
    pub healthy: String,
    /// What is odd about it; `None` if nothing is.
    pub look: Option<&'static str>,
}

impl Reading {
    /// `fine`, or `look`.
    pub fn word(&self) -> &'static str {
        if self.look.is_some() { "look" } else { "fine" }
    }
}

/// The newest value of each health number that the log holds, in a fixed order. The ranges are those of
/// [`HEALTHY`].
pub fn readings(outline: &Outline, records: &[Record]) -> Vec<Reading> {
    let Some(last) = records.last() else { return Vec::new() };
    let loss = last.train_loss;
    let look = (!loss.is_finite()).then_some("not a finite number");
    let mut all = vec![Reading { label: "loss", value: loss, healthy: "falls".into(), look }];
    for number in &HEALTHY {
        let newest = match number.field {
            "data_wait" => mean_wait(records),
            _ => records.iter().rev().find_map(number.of),
        };
        let Some(value) = newest else { continue };
        let unit = match number.unit {
            Unit::One => Some(1.0),
            Unit::LogClasses => outline.prototypes.map(|k| (k as f64).ln()),
            Unit::Directions => Some(outline.directions()),
            Unit::Usual => usual_norm(records),
        };
        let healthy = match (number.unit, unit) {
            // What could be is part of the range.
            (Unit::Directions, Some(most)) => format!("{} of {}", number.range(most, brief), brief(most)),
            (_, Some(unit)) => number.range(unit, brief),
            (_, None) => number.documented(),
        };
        all.push(Reading { label: number.label, value, healthy, look: number.oddity(value, unit) });
    }
    all
}

/// The mean part of the last steps that was spent waiting.
fn mean_wait(records: &[Record]) -> Option<f64> {
    let waits: Vec<f64> = records.iter().rev().take(WAITS).filter_map(|r| r.data_wait).collect();
    (!waits.is_empty()).then(|| waits.iter().sum::<f64>() / waits.len() as f64)
}

/// The median of the finite norms of the last records but the newest; none of fewer than five.
fn usual_norm(records: &[Record]) -> Option<f64> {
    let norms = records.iter().rev().filter_map(|r| r.grad_norm).skip(1).take(RECENT);
    let mut norms: Vec<f64> = norms.filter(|n| n.is_finite()).collect();
    norms.sort_by(f64::total_cmp);
    (norms.len() >= 5).then(|| norms[norms.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::super::testing::record;
    use super::*;

    fn healthy(step: u64) -> Record {
        Record {
            teacher_entropy: Some(2.0),
            teacher_student_kl: Some(0.8),
            prototypes_used: Some(0.6),
            feature_std: Some(0.9),
            feature_rank: Some(2.3),
            grad_norm: Some(1.5),
            patch_agreement: Some(0.4),
            data_wait: Some(0.01),
            ..record(step)
        }
    }

    fn odd(records: &[Record]) -> Vec<&'static str> {
        let outline = Outline { prototypes: Some(512), rows: Some(32), width: Some(256), ..Outline::default() };
        let all = readings(&outline, records);
        all.into_iter().filter(|r| r.word() == "look").map(|r| r.label).collect()
    }

    #[test]
    fn a_healthy_run_is_fine() {
        let records: Vec<Record> = (1..30).map(healthy).collect();
        assert_eq!(odd(&records), [""; 0]);
        assert_eq!(readings(&Outline::default(), &records).len(), 9);
        assert!(readings(&Outline::default(), &[]).is_empty());
        assert_eq!(readings(&Outline::default(), &[record(1)]).len(), 1, "an older log");
    }

    /// The healthy range of the number called `label` is one that its value must be compared with.
    #[test]
    fn a_low_rank_is_not_fine_whatever_is_known_of_the_run() {
        let records = [Record { feature_rank: Some(1.9), ..healthy(30) }];
        let rank =
            |outline: &Outline| readings(outline, &records).into_iter().find(|r| r.label == "feature rank").unwrap();
        // 64 rows are looked at at most.
        for outline in [Outline::default(), Outline { rows: Some(128), width: Some(256), ..Outline::default() }] {
            let rank = rank(&outline);
            assert_eq!((rank.word(), rank.healthy.as_str()), ("look", "at least 3.5 of 64"));
        }
        let narrow = rank(&Outline { rows: Some(128), width: Some(24), ..Outline::default() });
        assert_eq!((narrow.word(), narrow.healthy.as_str()), ("fine", "at least 1.3 of 24"));
    }

    #[test]
    fn ranges_stand_beside_the_numbers_in_their_own_unit() {
        let outline = Outline { prototypes: Some(512), ..Outline::default() };
        let records: Vec<Record> = (1..30).map(healthy).collect();
        let all = |outline: &Outline| readings(outline, &records).into_iter().map(|r| r.healthy).collect::<Vec<_>>();
        let expected = [
            "falls",
            "0.12 to 5.9",
            "at least 0.05",
            "at least 0.1",
            "at least 0.3",
            "at least 3.5 of 64",
            "at most 15",
            "at least 0.1",
            "at most 0.2",
        ];
        assert_eq!(all(&outline), expected);
        assert_eq!(all(&Outline::default())[1], "0.02 to 0.95 ln K");
    }

    #[test]
    fn each_oddity_is_seen() {
        let cases: [(&str, Record); 12] = [
            ("loss", Record { train_loss: f64::NAN, ..healthy(30) }),
            ("teacher entropy", Record { teacher_entropy: Some(0.0), ..healthy(30) }),
            ("teacher entropy", Record { teacher_entropy: Some(6.238), ..healthy(30) }),
            ("divergence (KL)", Record { teacher_student_kl: Some(1e-4), ..healthy(30) }),
            ("prototypes used", Record { prototypes_used: Some(0.03), ..healthy(30) }),
            ("feature spread", Record { feature_std: Some(0.01), ..healthy(30) }),
            ("feature rank", Record { feature_rank: Some(1.1), ..healthy(30) }),
            ("feature rank", Record { feature_rank: Some(1.5), ..healthy(30) }),
            ("gradient norm", Record { grad_norm: Some(16.0), ..healthy(30) }),
            ("gradient norm", Record { grad_norm: Some(f64::INFINITY), ..healthy(30) }),
            ("patch agreement", Record { patch_agreement: Some(-0.1), ..healthy(30) }),
            ("waiting for data", Record { data_wait: Some(5.0), ..healthy(30) }),
        ];
        for (label, last) in cases {
            let records: Vec<Record> = (1..30).map(healthy).chain([last]).collect();
            assert_eq!(odd(&records), [label]);
        }
    }

    #[test]
    fn a_number_that_is_not_in_every_record_is_still_told() {
        let records = [healthy(1), record(2)];
        assert_eq!(readings(&Outline::default(), &records).len(), 9);
    }
}
