//! `model`: the image feature of a network of SelfPatch.

use anyhow::Result;
use candle_core::DType;
use selfpatch_aggregation::{Aggregator, AggregatorConfig};
use selfpatch_fixture::{Check, Fixture, Report, Tolerance};
use selfpatch_nn::Params;
use std::path::Path;

/// Every fixture of this crate.
pub const CHECKS: &[Check] = &[Check::flat("cls_feature", class_token)];

/// Heads of the fixture's class attention, of width 24.
const HEADS: usize = 3;

/// Token 0 of the published head's output, f32: within 1e-5 of the largest value.
fn class_token(f: &Fixture, report: &mut Report) -> Result<()> {
    let tokens = f.get("tokens")?;
    let params = Params::frozen(0);
    let config = AggregatorConfig::new(tokens.dim(2)?, HEADS);
    let attention = Aggregator::new(&config, params.builder(DType::F32, tokens.device()))?;
    params.load(&f.weights("w."), Path::new("cls_feature"))?;
    report.close("class token", &attention.image(tokens)?, f.get("cls")?, Tolerance::Scaled(1e-5))
}
