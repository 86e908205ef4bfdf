//! `eval`: labels through videos, their scores, and nearest neighbours.

mod davis;
mod knn;

use selfpatch_fixture::Check;

/// Every fixture of this crate.
pub const CHECKS: &[Check] = &[
    Check::single("label_propagation", davis::propagation),
    Check::single("davis_io", davis::frames),
    Check::single("davis_metrics", davis::metrics),
    Check::single("knn", knn::dino),
];
