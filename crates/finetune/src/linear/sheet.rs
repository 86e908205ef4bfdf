//! What a linear probe shows.

use selfpatch_run::{ChartOf, CurveOf, Measured, Section, Sheet, report::no_pictures};

/// Numbers of a linear probe: `train_loss` is that of the weights' classifier whose rate is the best until now.
pub const SHEET: Sheet = Sheet {
    loss: "train_loss",
    parts: &[],
    subject: "classifier",
    often: true,
    measured: &[Measured { label: "top-1", field: "top1" }, Measured { label: "top-5", field: "top5" }],
    sections: &[Section { title: "Course", charts: COURSE }, Section { title: "Measured", charts: MEASURED }],
    healthy: &[],
    pictures: no_pictures,
};

const COURSE: &[ChartOf] = &[
    ChartOf::new("Training loss", "cross-entropy", &[CurveOf { label: "loss", field: "train_loss" }]),
    ChartOf::new("Learning rate", "learning rate", &[CurveOf { label: "learning rate", field: "train_lr" }]),
];

const MEASURED: &[ChartOf] = &[
    ChartOf::new(
        "First guesses that are right",
        "top-1, 0 to 1",
        &[CurveOf { label: "weights", field: "top1" }, CurveOf { label: "random weights", field: "random_top1" }],
    ),
    ChartOf::new(
        "Right among five guesses",
        "top-5, 0 to 1",
        &[CurveOf { label: "weights", field: "top5" }, CurveOf { label: "random weights", field: "random_top5" }],
    ),
];
