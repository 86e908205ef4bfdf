//! Between which values the health numbers of a run lie that learns: the one table from which the page, `watch` and
//! the alarms tell, and with which `docs/running.md` agrees. `docs/results.md` has the runs that were measured.

use super::Record;

/// In what the bounds of a number are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// In the number itself.
    One,
    /// In ln K, K being the class prototypes.
    LogClasses,
    /// In directions that features could use: one per global view, or the width of the features.
    Directions,
    /// In the median of the last steps.
    Usual,
}

/// A number and where it lies in a healthy run.
#[derive(Clone, Copy, Debug)]
pub struct Healthy {
    /// Its field in the log.
    pub field: &'static str,
    /// What it is called on the page and in the terminal.
    pub label: &'static str,
    /// It, where a record has it.
    pub of: fn(&Record) -> Option<f64>,
    /// In what the bounds are counted.
    pub unit: Unit,
    /// Least healthy value, and what it means to be below.
    pub low: Option<(f64, &'static str)>,
    /// Greatest healthy value, and what it means to be above.
    pub high: Option<(f64, &'static str)>,
}

/// Spread of features below which images look alike; healthy runs had 0.36 to 0.74.
pub const LEAST_SPREAD: f64 = 0.3;

/// All numbers that are judged, in the order in which they are shown.
pub const HEALTHY: [Healthy; 8] = [
    Healthy {
        field: "teacher_entropy",
        label: "teacher entropy",
        of: |r| r.teacher_entropy,
        unit: Unit::LogClasses,
        low: Some((0.02, "near 0: the teacher gives one answer to everything")),
        high: Some((0.95, "near ln K: the teacher answers nothing")),
    },
    Healthy {
        field: "teacher_student_kl",
        label: "divergence (KL)",
        of: |r| r.teacher_student_kl,
        unit: Unit::One,
        low: Some((0.05, "near 0: nothing is left to learn, which is often a collapse")),
        high: None,
    },
    Healthy {
        field: "prototypes_used",
        label: "prototypes used",
        of: |r| r.prototypes_used,
        unit: Unit::One,
        low: Some((0.1, "few: most images get the same answer")),
        high: None,
    },
    Healthy {
        field: "feature_std",
        label: "feature spread",
        of: |r| r.feature_std,
        unit: Unit::One,
        low: Some((LEAST_SPREAD, "near 0: all images look alike to the teacher")),
        high: None,
    },
    Healthy {
        field: "feature_rank",
        label: "feature rank",
        of: |r| r.feature_rank,
        unit: Unit::Directions,
        low: Some((0.055, "low: features differ along few directions only")),
        high: None,
    },
    Healthy {
        field: "grad_norm",
        label: "gradient norm",
        of: |r| r.grad_norm,
        unit: Unit::Usual,
        low: None,
        high: Some((10.0, "ten times the usual")),
    },
    Healthy {
        field: "patch_agreement",
        label: "patch agreement",
        of: |r| r.patch_agreement,
        unit: Unit::One,
        low: Some((0.1, "near 0: patches do not follow their targets, as in the first steps")),
        high: None,
    },
    Healthy {
        field: "data_wait",
        label: "waiting for data",
        of: |r| r.data_wait,
        unit: Unit::One,
        low: None,
        high: Some((0.2, "the data is slower than the network: more data.workers, or smaller files")),
    },
];

impl Healthy {
    /// Why `value` is odd, where one unit is `unit`; nothing where it is healthy. Of a unit that is not known, such as
    /// ln K without a configuration, the lower bound counts as that of 1.
    pub fn oddity(&self, value: f64, unit: Option<f64>) -> Option<&'static str> {
        if !value.is_finite() {
            return Some("not a finite number");
        }
        let unit = unit.filter(|u| *u > 0.0);
        let below = self.low.filter(|(low, _)| value < low * unit.unwrap_or(1.0));
        let above = self.high.filter(|(high, _)| unit.is_some_and(|unit| value > high * unit));
        below.or(above).map(|(_, why)| why)
    }

    /// The healthy range with bounds times `unit`, written by `number`.
    pub fn range(&self, unit: f64, number: impl Fn(f64) -> String) -> String {
        let bound = |bound: Option<(f64, &str)>| bound.map(|(value, _)| number(value * unit));
        match (bound(self.low), bound(self.high)) {
            (Some(low), Some(high)) => format!("{low} to {high}"),
            (Some(low), None) => format!("at least {low}"),
            (None, Some(high)) => format!("at most {high}"),
            (None, None) => String::new(),
        }
    }

    /// The healthy range as documentation has it, with bounds in units.
    pub fn documented(&self) -> String {
        let of = match self.unit {
            Unit::One => "",
            Unit::LogClasses => " ln K",
            Unit::Directions => " of the possible",
            Unit::Usual => " times the usual",
        };
        self.range(1.0, |bound| bound.to_string()) + of
    }
}
