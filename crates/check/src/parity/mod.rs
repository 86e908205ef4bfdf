//! Comparisons with fixtures, a module for each crate that is compared. `tests/parity.rs` of that crate includes the
//! module by its path: so each crate is proved alone, by its own fixtures, without this crate and what it imports.
//! Shapes, sizes and settings are read from the fixtures.

mod aggregation;
mod datasets;
mod eval;
mod finetune;
mod losses;
mod matching;
mod model;
mod optim;
mod train;
mod vit;

use anyhow::{Result, bail};
use selfpatch_fixture::{Check, Place, Report, check_of, compare, found};
use std::path::PathBuf;

pub use selfpatch_fixture::{Computing, Outcome};

/// The checks of all crates.
fn checks() -> Vec<Check> {
    [
        vit::CHECKS,
        matching::CHECKS,
        aggregation::CHECKS,
        losses::CHECKS,
        optim::CHECKS,
        datasets::CHECKS,
        eval::CHECKS,
        model::CHECKS,
        finetune::CHECKS,
        train::CHECKS,
    ]
    .concat()
}

/// Compares with all fixtures below `folders`, or with those that `only` names (NAME or FOLDER/NAME). Of a folder of
/// crates the fixtures are those in `CRATE/tests/fixtures`.
///
/// # Errors
/// Folders that cannot be read or hold no fixtures, names that no fixture has. What goes wrong in a comparison is a
/// row of the outcome.
pub fn checked(folders: &[PathBuf], only: &[String], computing: &Computing) -> Result<Outcome> {
    let mut places = Vec::new();
    for folder in folders {
        if !folder.is_dir() {
            bail!("{}: is no folder; run this in the repository, or pass --fixtures DIR", folder.display());
        }
        match found(folder)? {
            none if none.is_empty() => {
                bail!("{}: holds no fixtures (NAME.safetensors with NAME.json or manifest.json)", folder.display())
            }
            some => places.extend(some),
        }
    }
    for name in only {
        if !places.iter().any(|place| place.is_called(name)) {
            let names = places.iter().map(|place| place.name.as_str());
            bail!("--only: there is no fixture {name:?}{}", selfpatch_train::did_you_mean(name, names));
        }
    }
    if !only.is_empty() {
        places.retain(|place| only.iter().any(|name| place.is_called(name)));
    }
    let checks = checks();
    let has_check = |place: &Place| check_of(place, &checks).next().is_some();
    let mut report = Report::new(computing);
    for place in &places {
        // `--only heads` means the one that can be checked, where two folders have one each.
        let namesake = || places.iter().any(|other| other.name == place.name && has_check(other));
        match !only.is_empty() && !has_check(place) && namesake() {
            true => report.passed_over(&place.label()),
            false => compare(place, &checks, computing, &mut report),
        }
    }
    Ok(report.outcome())
}
