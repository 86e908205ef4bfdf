//! What the tests of this crate share.

use crate::report::no_pictures;
use crate::{ChartOf, CurveOf, Healthy, Measured, Outline, Record, Section, Sheet, Unit};
use std::fs;
use std::io;
use std::path::PathBuf;

/// A folder of one test's own, removed when the test ends.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("selfpatch-run-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A plausible record of step `step`.
pub fn record(step: u64) -> Record {
    let t = step as f64;
    Record::new(step)
        .with("epoch", t / 100.0)
        .with("train_loss", 9.0 / (1.0 + t / 900.0) + 0.3 * (t * 0.7).sin())
        .with("train_clsloss", 5.0 / (1.0 + t / 900.0) + 0.2 * (t * 0.7).sin())
        .with("train_lr", 5e-4 * (t / 500.0).min(1.0))
        .with("images_per_second", 800.0 + 20.0 * (t * 0.1).cos())
        .with("seconds", t * 0.3)
}

fn log_classes(outline: &Outline) -> Option<f64> {
    outline.whole("head", "out_dim").map(|k| (k as f64).ln())
}

fn entropy_marks(outline: &Outline) -> Vec<(f64, &'static str)> {
    log_classes(outline).map_or(Vec::new(), |most| vec![(0.0, "0: one answer"), (most, "ln K: no answer")])
}

fn directions(outline: &Outline) -> f64 {
    outline.whole("head", "width").unwrap_or(64) as f64
}

/// A task with a number of every kind.
pub const SHEET: Sheet = Sheet {
    loss: "train_loss",
    parts: &[("class", "train_clsloss")],
    subject: "teacher",
    often: false,
    measured: &[Measured { label: "top-1", field: "top1" }],
    sections: &[
        Section {
            title: "Course",
            charts: &[
                ChartOf::new(
                    "Training loss",
                    "loss",
                    &[
                        CurveOf { label: "total", field: "train_loss" },
                        CurveOf { label: "class", field: "train_clsloss" },
                    ],
                ),
                ChartOf::new("Learning rate", "rate", &[CurveOf { label: "learning rate", field: "train_lr" }]),
                ChartOf::new("Throughput", "images/s", &[CurveOf { label: "images/s", field: "images_per_second" }]),
            ],
        },
        Section {
            title: "Measured",
            charts: &[ChartOf::new("By labels", "top-1", &[CurveOf { label: "top-1", field: "top1" }])],
        },
        Section {
            title: "Health over time",
            charts: &[ChartOf {
                marks: entropy_marks,
                ..ChartOf::new("Teacher entropy", "nats", &[CurveOf { label: "entropy", field: "teacher_entropy" }])
            }],
        },
    ],
    healthy: &[
        Healthy {
            field: "teacher_entropy",
            label: "teacher entropy",
            unit: Unit::Known { name: "ln K", of: log_classes },
            low: Some((0.02, "near 0: one answer")),
            high: Some((0.95, "near ln K: no answer")),
        },
        Healthy {
            field: "feature_rank",
            label: "feature rank",
            unit: Unit::Possible(directions),
            low: Some((0.055, "low: few directions")),
            high: None,
        },
        Healthy {
            field: "grad_norm",
            label: "gradient norm",
            unit: Unit::Usual,
            low: None,
            high: Some((10.0, "ten times the usual")),
        },
        Healthy {
            field: "data_wait",
            label: "waiting for data",
            unit: Unit::One,
            low: None,
            high: Some((0.2, "the data is slow")),
        },
    ],
    pictures: no_pictures,
};
