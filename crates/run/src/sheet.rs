//! What a task says of its numbers: which are drawn, and between which values they lie in a healthy run.

use crate::Outline;
use std::io;
use std::path::Path;

/// All that the page and `watch` know of a task.
#[derive(Clone, Copy, Debug)]
pub struct Sheet {
    /// Field of the loss that is minimised.
    pub loss: &'static str,
    /// Label and field of each loss that the minimised loss is made of.
    pub parts: &'static [(&'static str, &'static str)],
    /// Word for what is measured now and then.
    pub subject: &'static str,
    /// Whether measurements are so frequent that a terminal is told of them only now and then.
    pub often: bool,
    /// Measurements of the task.
    pub measured: &'static [Measured],
    /// Charts in the order in which they are shown.
    pub sections: &'static [Section],
    /// All numbers that are judged, in the order in which they are shown.
    pub healthy: &'static [Healthy],
    /// Pictures in the folder of a run as markup with a heading; empty where there are none.
    pub pictures: fn(&Path) -> io::Result<String>,
}

/// A score from 0 to 1, shown in percent.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Label of the score.
    pub label: &'static str,
    /// Field of the measurement in the log.
    pub field: &'static str,
}

/// Charts under one heading.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// Charts in the order in which they are shown. A chart whose fields no record has is left out.
    pub charts: &'static [ChartOf],
}

/// A chart and the fields that it shows.
#[derive(Clone, Copy, Debug)]
pub struct ChartOf {
    /// Heading of the chart.
    pub title: &'static str,
    /// What the vertical axis counts.
    pub unit: &'static str,
    /// Curves of the chart, at most three.
    pub curves: &'static [CurveOf],
    /// Values that the curves should be compared with, and their names.
    pub marks: fn(&Outline) -> Vec<(f64, &'static str)>,
}

impl ChartOf {
    /// A chart without marks.
    pub const fn new(title: &'static str, unit: &'static str, curves: &'static [CurveOf]) -> Self {
        Self { title, unit, curves, marks: |_| Vec::new() }
    }
}

/// A curve and its field in the log.
#[derive(Clone, Copy, Debug)]
pub struct CurveOf {
    /// Name of the curve in the legend.
    pub label: &'static str,
    /// Field of the curve in the log.
    pub field: &'static str,
}

/// The unit in which the bounds of a number are counted.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// Bounds are values of the number itself.
    One,
    /// Bounds are multiples of the median of the last steps.
    Usual,
    /// Bounds are multiples of a quantity that the settings tell, such as ln K.
    Known {
        /// Name of the quantity.
        name: &'static str,
        /// Value of the quantity, where the settings tell.
        of: fn(&Outline) -> Option<f64>,
    },
    /// Bounds are multiples of the greatest value that is possible, which is shown with the range.
    Possible(fn(&Outline) -> f64),
}

/// A number and where it lies in a healthy run.
#[derive(Clone, Copy, Debug)]
pub struct Healthy {
    /// Field of the number in the log.
    pub field: &'static str,
    /// Name of the number on the page and in the terminal.
    pub label: &'static str,
    /// Unit in which the bounds are counted.
    pub unit: Unit,
    /// Least healthy value, and what a lower value means.
    pub low: Option<(f64, &'static str)>,
    /// Greatest healthy value, and what a higher value means.
    pub high: Option<(f64, &'static str)>,
}

impl Healthy {
    /// Why `value` is odd, where one unit is `unit`; nothing where it is healthy. Where the unit is not known, such as
    /// ln K without a configuration, the lower bound counts with a unit of 1 and the upper bound not at all.
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
            Unit::One => String::new(),
            Unit::Known { name, .. } => format!(" {name}"),
            Unit::Possible(_) => " of the possible".into(),
            Unit::Usual => " times the usual".into(),
        };
        self.range(1.0, |bound| bound.to_string()) + &of
    }
}
