//! Whole training steps against values of the original programs, by the comparisons of `selfpatch parity`.

use anyhow::Result;
use selfpatch_fixture::{Computing, compared, found};
use std::path::Path;

#[path = "../../check/src/parity/train.rs"]
mod train;

#[test]
fn every_fixture_of_this_crate_agrees() -> Result<()> {
    let outcome = selfpatch_fixture::proven(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"), train::CHECKS)?;
    assert!(outcome.passed, "{}", outcome.table());
    Ok(())
}

/// The views and their tensors are a fixture of `datasets`, which makes the views.
#[test]
fn tensors_of_views_agree() -> Result<()> {
    let mut views = found(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/tests/fixtures")))?;
    views.retain(|place| place.name == "augment");
    let outcome = compared(&views, train::CHECKS, &Computing::reference());
    assert!(outcome.passed, "{}", outcome.table());
    Ok(())
}
