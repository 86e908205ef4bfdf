//! The numbers that tell whether a run learns, each with a plain word.
//!
//! The limits are rough: they are there to draw a reader's eye, they stop nothing.

use super::{Outline, Record};

/// Records among which the usual norm of gradients is looked for.
const RECENT: usize = 100;
/// Records over which the waiting for data is averaged: that of one step varies much.
const WAITS: usize = 20;

/// One number, judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// What it is.
    pub label: &'static str,
    /// The newest value.
    pub value: f64,
    /// What is odd about it; `None` if nothing is.
    pub look: Option<&'static str>,
}

impl Reading {
    /// `fine`, or `look`.
    pub fn word(&self) -> &'static str {
        if self.look.is_some() { "look" } else { "fine" }
    }
}

/// The newest value of each health number that the log holds, in a fixed order.
pub fn readings(outline: &Outline, records: &[Record]) -> Vec<Reading> {
    let Some(last) = records.last() else { return Vec::new() };
    let newest = |field: fn(&Record) -> Option<f64>| records.iter().rev().find_map(field);
    let reading = |label, value: Option<f64>, look: &dyn Fn(f64) -> Option<&'static str>| {
        let value = value?;
        let look = if value.is_finite() { look(value) } else { Some("not a finite number") };
        Some(Reading { label, value, look })
    };
    let most = outline.prototypes.map(|k| (k as f64).ln());
    let usual = usual_norm(records);
    let all = [
        reading("loss", Some(last.train_loss), &|_| None),
        reading("teacher entropy", newest(|r| r.teacher_entropy), &|v| match most {
            _ if v < 0.01 => Some("near 0: the teacher gives one answer to everything"),
            Some(most) if v > 0.99 * most => Some("near ln K: the teacher answers nothing"),
            _ => None,
        }),
        reading("divergence (KL)", newest(|r| r.teacher_student_kl), &|v| {
            (v < 0.01).then_some("near 0: nothing is left to learn, which is often a collapse")
        }),
        reading("prototypes used", newest(|r| r.prototypes_used), &|v| {
            (v < 0.1).then_some("few: most images get the same answer")
        }),
        reading("feature spread", newest(|r| r.feature_std), &|v| {
            (v < 0.1).then_some("near 0: all images look alike to the teacher")
        }),
        reading("feature rank", newest(|r| r.feature_rank), &|v| {
            (v < 1.5).then_some("near 1: features differ along one direction only")
        }),
        reading("gradient norm", newest(|r| r.grad_norm), &|v| match usual {
            Some(usual) if v > 10.0 * usual => Some("ten times the usual"),
            _ => None,
        }),
        reading("patch agreement", newest(|r| r.patch_agreement), &|v| {
            (v <= 0.0).then_some("not above 0: patches do not follow their targets")
        }),
        reading("waiting for data", mean_wait(records), &|v| {
            (v > 0.2).then_some("the data is slower than the network: more data.workers, or smaller files")
        }),
    ];
    all.into_iter().flatten().collect()
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
            feature_rank: Some(14.0),
            grad_norm: Some(1.5),
            patch_agreement: Some(0.4),
            data_wait: Some(0.01),
            ..record(step)
        }
    }

    fn odd(records: &[Record]) -> Vec<&'static str> {
        let outline = Outline { prototypes: Some(512), ..Outline::default() };
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

    #[test]
    fn each_oddity_is_seen() {
        let cases: [(&str, Record); 11] = [
            ("loss", Record { train_loss: f64::NAN, ..healthy(30) }),
            ("teacher entropy", Record { teacher_entropy: Some(0.0), ..healthy(30) }),
            ("teacher entropy", Record { teacher_entropy: Some(6.238), ..healthy(30) }),
            ("divergence (KL)", Record { teacher_student_kl: Some(1e-4), ..healthy(30) }),
            ("prototypes used", Record { prototypes_used: Some(0.03), ..healthy(30) }),
            ("feature spread", Record { feature_std: Some(0.01), ..healthy(30) }),
            ("feature rank", Record { feature_rank: Some(1.1), ..healthy(30) }),
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
