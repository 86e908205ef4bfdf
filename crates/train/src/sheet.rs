//! Which numbers of a pre-training are drawn, and between which values they lie in a run that learns: the one table
//! from which the page, `watch` and the alarms tell, and with which `docs/running.md` agrees. `docs/results.md` has the
//! runs that were measured.

use crate::views::section;
use selfpatch_losses::SPREAD_ROWS;
use selfpatch_run::{ChartOf, CurveOf, Healthy, Measured, Outline, Section, Sheet, Unit};

/// Spread of features below which images look alike; healthy runs had 0.36 to 0.74.
pub const LEAST_SPREAD: f64 = 0.3;

/// Numbers that a pre-training shows.
pub const SHEET: Sheet = Sheet {
    loss: "train_loss",
    parts: &[("class", "train_clsloss"), ("patch", "train_patchloss")],
    subject: "teacher",
    often: false,
    measured: &[Measured { label: "J&F", field: "davis_jf" }, Measured { label: "k-NN top-1", field: "knn_top1" }],
    sections: &[
        Section { title: "Course", charts: COURSE },
        Section { title: "Measured", charts: MEASURED },
        Section { title: "Health over time", charts: HEALTH },
        Section { title: "Data", charts: DATA },
    ],
    healthy: HEALTHY,
    pictures: section,
};

const COURSE: &[ChartOf] = &[
    ChartOf::new(
        "Training loss",
        "loss",
        &[
            CurveOf { label: "total", field: "train_loss" },
            CurveOf { label: "class", field: "train_clsloss" },
            CurveOf { label: "patch", field: "train_patchloss" },
        ],
    ),
    ChartOf::new("Learning rate", "learning rate", &[CurveOf { label: "learning rate", field: "train_lr" }]),
    ChartOf::new("Weight decay", "weight decay", &[CurveOf { label: "weight decay", field: "train_wd" }]),
    ChartOf::new("Throughput", "images per second", &[CurveOf { label: "images/s", field: "images_per_second" }]),
];

const MEASURED: &[ChartOf] = &[
    ChartOf::new("Teacher on videos", "J&amp;F, 0 to 1", &[CurveOf { label: "J&amp;F", field: "davis_jf" }]),
    ChartOf::new("Teacher by nearest neighbours", "top-1, 0 to 1", &[CurveOf { label: "top-1", field: "knn_top1" }]),
];

const HEALTH: &[ChartOf] = &[
    ChartOf {
        marks: entropy_marks,
        ..ChartOf::new("Teacher entropy", "nats", &[CurveOf { label: "entropy", field: "teacher_entropy" }])
    },
    ChartOf::new("Divergence of the student", "nats", &[CurveOf { label: "KL", field: "teacher_student_kl" }]),
    ChartOf::new("Prototypes used", "part of those possible", &[CurveOf { label: "part", field: "prototypes_used" }]),
    ChartOf::new("Spread of features", "1 even, 0 all alike", &[CurveOf { label: "spread", field: "feature_std" }]),
    ChartOf::new("Rank of features", "effective rank", &[CurveOf { label: "rank", field: "feature_rank" }]),
    ChartOf::new("Gradient norm", "norm before clipping", &[CurveOf { label: "norm", field: "grad_norm" }]),
    ChartOf::new("Patch agreement", "mean cosine", &[CurveOf { label: "cosine", field: "patch_agreement" }]),
];

const DATA: &[ChartOf] = &[
    ChartOf::new("Waiting for data", "part of the step", &[CurveOf { label: "part", field: "data_wait" }]),
    ChartOf::new("Skipped samples", "samples", &[CurveOf { label: "samples", field: "skipped" }]),
];

const HEALTHY: &[Healthy] = &[
    Healthy {
        field: "teacher_entropy",
        label: "teacher entropy",
        unit: Unit::Known { name: "ln K", of: log_classes },
        low: Some((0.02, "near 0: the teacher gives one answer to everything")),
        high: Some((0.95, "near ln K: the teacher answers nothing")),
    },
    Healthy {
        field: "teacher_student_kl",
        label: "divergence (KL)",
        unit: Unit::One,
        low: Some((0.05, "near 0: nothing is left to learn, which is often a collapse")),
        high: None,
    },
    Healthy {
        field: "prototypes_used",
        label: "prototypes used",
        unit: Unit::One,
        low: Some((0.1, "few: most images get the same answer")),
        high: None,
    },
    Healthy {
        field: "feature_std",
        label: "feature spread",
        unit: Unit::One,
        low: Some((LEAST_SPREAD, "near 0: all images look alike to the teacher")),
        high: None,
    },
    Healthy {
        field: "feature_rank",
        label: "feature rank",
        unit: Unit::Possible(directions),
        low: Some((0.055, "low: features differ along few directions only")),
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
        field: "patch_agreement",
        label: "patch agreement",
        unit: Unit::One,
        low: Some((0.1, "near 0: patches do not follow their targets, as in the first steps")),
        high: None,
    },
    Healthy {
        field: "data_wait",
        label: "waiting for data",
        unit: Unit::One,
        low: None,
        high: Some((0.2, "the data is slower than the network: more data.workers, or smaller files")),
    },
];

/// The greatest entropy of the teacher's outputs: ln K, K being the class prototypes.
fn log_classes(outline: &Outline) -> Option<f64> {
    outline.whole("head", "out_dim").map(|k| (k as f64).ln())
}

fn entropy_marks(outline: &Outline) -> Vec<(f64, &'static str)> {
    log_classes(outline).map_or(Vec::new(), |most| vec![(0.0, "0: one answer to all"), (most, "ln K: no answer")])
}

/// Directions that the features of one look can use: one per global view of a part of a step, or their width.
fn directions(outline: &Outline) -> f64 {
    let most = SPREAD_ROWS as u64;
    let parts = outline.whole("optim", "accumulate").unwrap_or(1).max(1);
    let rows = outline.whole("optim", "batch_size").map_or(most, |images| 2 * images.div_ceil(parts));
    let width = outline.whole("head", "bottleneck_dim").unwrap_or(most);
    rows.min(width).min(most).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfpatch_run::Record;
    use selfpatch_run::health::readings;

    fn healthy(step: u64) -> Record {
        [
            ("train_loss", 3.),
            ("teacher_entropy", 2.),
            ("teacher_student_kl", 0.8),
            ("prototypes_used", 0.6),
            ("feature_std", 0.9),
            ("feature_rank", 2.3),
            ("grad_norm", 1.5),
            ("patch_agreement", 0.4),
            ("data_wait", 0.01),
        ]
        .into_iter()
        .fold(Record::new(step), |r, (name, value)| r.with(name, value))
    }

    fn odd(records: &[Record]) -> Vec<&'static str> {
        let outline = Outline::of("[head]\nout_dim = 512\nbottleneck_dim = 256\n[optim]\nbatch_size = 16");
        let all = readings(&outline, &SHEET, records);
        all.into_iter().filter(|r| r.word() == "look").map(|r| r.label).collect()
    }

    #[test]
    fn each_oddity_is_seen_and_health_is_fine() {
        let records: Vec<Record> = (1..30).map(healthy).collect();
        assert_eq!(odd(&records), [""; 0]);
        for (label, field, value) in [
            ("loss", "train_loss", f64::NAN),
            ("teacher entropy", "teacher_entropy", 0.0),
            ("teacher entropy", "teacher_entropy", 6.238),
            ("divergence (KL)", "teacher_student_kl", 1e-4),
            ("prototypes used", "prototypes_used", 0.03),
            ("feature spread", "feature_std", 0.01),
            ("feature rank", "feature_rank", 1.1),
            ("feature rank", "feature_rank", 1.5),
            ("gradient norm", "grad_norm", 16.0),
            ("gradient norm", "grad_norm", f64::INFINITY),
            ("patch agreement", "patch_agreement", -0.1),
            ("waiting for data", "data_wait", 5.0),
        ] {
            let records: Vec<Record> = (1..30).map(healthy).chain([healthy(30).with(field, value)]).collect();
            assert_eq!(odd(&records), [label], "{value}");
        }
    }

    /// The range of the feature rank is one that its value must be compared with.
    #[test]
    fn a_low_rank_is_not_fine_whatever_is_known_of_the_run() {
        let records = [healthy(30).with("feature_rank", 1.9)];
        let rank = |config: &str| {
            let all = readings(&Outline::of(config), &SHEET, &records);
            let rank = all.into_iter().find(|r| r.label == "feature rank").expect("the rank");
            (rank.word(), rank.healthy)
        };
        // 64 rows are looked at at most.
        for config in ["", "[head]\nbottleneck_dim = 256\n[optim]\nbatch_size = 64"] {
            assert_eq!(rank(config), ("look", "at least 3.5 of 64".into()));
        }
        assert_eq!(rank("[head]\nbottleneck_dim = 24"), ("fine", "at least 1.3 of 24".into()));
    }

    #[test]
    fn a_recipe_tells_all_that_the_sheet_asks_for() -> Result<(), crate::Error> {
        let outline = Outline::of(&crate::Preset::Default.config().to_toml()?);
        assert_eq!((outline.name.as_deref(), outline.epochs), (Some("default"), Some(1)));
        assert_eq!((log_classes(&outline), directions(&outline)), (Some(512f64.ln()), 32.));
        Ok(())
    }
}
