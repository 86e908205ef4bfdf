//! The numbers that tell whether a run learns, each with a plain word.
//!
//! The ranges are those of runs that were measured; they are there to draw a reader's eye, they stop nothing.

use crate::{Outline, Record, Sheet, Unit};
use selfpatch_figures::words::brief;

/// Records among which the usual value of a number is looked for.
const RECENT: usize = 100;
/// The part of a step that was spent waiting for data.
const WAIT: &str = "data_wait";
/// Records over which the time of waiting for data is averaged, which varies much from step to step.
const WAITS: usize = 20;

/// One number, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Label of the number.
    pub label: &'static str,
    /// The newest value.
    pub value: f64,
    /// Where the number lies in a healthy run, in words.
    pub healthy: String,
    /// What is odd about the number; `None` if nothing is.
    pub look: Option<&'static str>,
}

impl Reading {
    /// The word for the number: `look` if something is odd about it, else `fine`.
    pub fn word(&self) -> &'static str {
        if self.look.is_some() { "look" } else { "fine" }
    }
}

/// The newest value of the loss and of each number that `sheet` judges, in its order, where the log holds it.
pub fn readings(outline: &Outline, sheet: &Sheet, records: &[Record]) -> Vec<Reading> {
    let Some(last) = records.last() else { return Vec::new() };
    let loss = last.number(sheet.loss);
    let look = (!loss.is_finite()).then_some("not a finite number");
    let mut all = vec![Reading { label: "loss", value: loss, healthy: "falls".into(), look }];
    for number in sheet.healthy {
        let newest = match number.field {
            WAIT => mean_wait(records),
            field => records.iter().rev().find_map(|r| r.get(field)),
        };
        let Some(value) = newest else { continue };
        let unit = match number.unit {
            Unit::One => Some(1.0),
            Unit::Known { of, .. } => of(outline),
            Unit::Possible(of) => Some(of(outline)),
            Unit::Usual => usual(records, number.field),
        };
        let healthy = match (number.unit, unit) {
            // What could be is part of the range.
            (Unit::Possible(_), Some(most)) => format!("{} of {}", number.range(most, brief), brief(most)),
            (_, Some(unit)) => number.range(unit, brief),
            (_, None) => number.documented(),
        };
        all.push(Reading { label: number.label, value, healthy, look: number.oddity(value, unit) });
    }
    all
}

/// The mean part of the last steps that was spent waiting.
fn mean_wait(records: &[Record]) -> Option<f64> {
    let waits: Vec<f64> = records.iter().rev().take(WAITS).filter_map(|r| r.get(WAIT)).collect();
    (!waits.is_empty()).then(|| waits.iter().sum::<f64>() / waits.len() as f64)
}

/// The median of the finite values of the last records but the newest; none of fewer than five.
fn usual(records: &[Record], field: &str) -> Option<f64> {
    let values = records.iter().rev().filter_map(|r| r.get(field)).skip(1).take(RECENT);
    let mut values: Vec<f64> = values.filter(|n| n.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    (values.len() >= 5).then(|| values[values.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SHEET, record};

    fn healthy(step: u64) -> Record {
        let r = record(step).with("teacher_entropy", 2.0).with("feature_rank", 4.0);
        r.with("grad_norm", 1.5).with("data_wait", 0.01)
    }

    fn odd(records: &[Record]) -> Vec<&'static str> {
        let outline = Outline::of("[head]\nout_dim = 512");
        let all = readings(&outline, &SHEET, records);
        all.into_iter().filter(|r| r.word() == "look").map(|r| r.label).collect()
    }

    #[test]
    fn a_healthy_run_is_fine() {
        let records: Vec<Record> = (1..30).map(healthy).collect();
        let count = |records: &[Record]| readings(&Outline::default(), &SHEET, records).len();
        assert_eq!(odd(&records), [""; 0]);
        assert_eq!((count(&records), count(&[])), (5, 0));
        assert_eq!(count(&[record(1)]), 1, "a log without these numbers");
        assert_eq!(count(&[healthy(1), record(2)]), 5, "a number that is not in every record is still told");
    }

    #[test]
    fn ranges_stand_beside_the_numbers_in_their_own_unit() {
        let records: Vec<Record> = (1..30).map(healthy).collect();
        let all = |config: &str| {
            let readings = readings(&Outline::of(config), &SHEET, &records);
            readings.into_iter().map(|r| r.healthy).collect::<Vec<_>>()
        };
        let known = ["falls", "0.12 to 5.9", "at least 1.3 of 24", "at most 15", "at most 0.2"];
        assert_eq!(all("[head]\nout_dim = 512\nwidth = 24"), known);
        assert_eq!(all("")[1..3], ["0.02 to 0.95 ln K", "at least 3.5 of 64"]);
    }

    #[test]
    fn each_oddity_is_seen() {
        for (label, field, value) in [
            ("loss", "train_loss", f64::NAN),
            ("teacher entropy", "teacher_entropy", 0.0),
            ("teacher entropy", "teacher_entropy", 6.238),
            ("feature rank", "feature_rank", 1.9),
            ("gradient norm", "grad_norm", 16.0),
            ("gradient norm", "grad_norm", f64::INFINITY),
            ("waiting for data", "data_wait", 5.0),
        ] {
            let records: Vec<Record> = (1..30).map(healthy).chain([healthy(30).with(field, value)]).collect();
            assert_eq!(odd(&records), [label], "{value}");
        }
    }
}
