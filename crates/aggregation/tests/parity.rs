//! The class-attention module against values of the original programs, by the comparisons of `selfpatch parity`.

use anyhow::Result;

#[path = "../../check/src/parity/aggregation.rs"]
mod aggregation;

#[test]
fn every_fixture_of_this_crate_agrees() -> Result<()> {
    let outcome =
        selfpatch_fixture::proven(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"), aggregation::CHECKS)?;
    assert!(outcome.passed, "{}", outcome.table());
    Ok(())
}
