//! Values of the original program that a GPU is compared with. On a machine with a GPU there is no checkout, so a
//! program that was built for CUDA has them inside.

use anyhow::Result;
use std::path::{Path, PathBuf};

macro_rules! fixtures {
    ($($krate:literal: $($name:literal $(with $description:literal)?),*;)*) => {
        /// Fixtures that are computed on the device.
        const NAMES: &[&str] = &[$($($name),*),*];
        /// Path below the folder of all fixtures, and content.
        #[cfg(any(test, feature = "cuda"))]
        const FILES: &[(&str, &[u8])] = &[
            $(
                $((concat!($krate, "/", $name, ".safetensors"), file!($krate, $name, ".safetensors")),)*
                $($((concat!($krate, "/", $name, $description), file!($krate, $name, $description)),)?)*
            )*
            ("vit/objectives/manifest.json", file!("vit", "objectives/manifest", ".json")),
            ("matching/objectives/manifest.json", file!("matching", "objectives/manifest", ".json")),
            ("aggregation/objectives/manifest.json", file!("aggregation", "objectives/manifest", ".json")),
            ("losses/objectives/manifest.json", file!("losses", "objectives/manifest", ".json")),
        ];
    };
}

#[cfg(any(test, feature = "cuda"))]
macro_rules! file {
    ($krate:literal, $($part:literal),*) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../", $krate, "/tests/fixtures/", $($part),*))
    };
}

fixtures!(
    "vit":
        "selfpatch/vit" with ".json",
        "selfpatch/vit_p8" with ".json",
        "selfpatch/droppath" with ".json",
        "objectives/vit_cls";
    "matching":
        "selfpatch/matching" with ".json",
        "objectives/neighbours";
    "aggregation":
        "selfpatch/aggregation" with ".json",
        "objectives/vit_tokens_selfpatch";
    "losses":
        "selfpatch/heads" with ".json",
        "selfpatch/loss_2p2" with ".json",
        "objectives/dino",
        "objectives/selfpatch_total_dino";
    "train":
        "selfpatch/train_b" with ".json";
);

/// Names of the fixtures that are computed on the device, FOLDER/NAME each.
pub fn names() -> Vec<String> {
    NAMES.iter().map(|name| name.to_string()).collect()
}

/// The folder of all fixtures: `given`, or what the program has inside, unpacked below `work`.
#[cfg(feature = "cuda")]
pub fn folder(given: Option<&Path>, work: &Path) -> Result<PathBuf> {
    given.map_or_else(|| unpacked(work), |given| Ok(given.to_path_buf()))
}

/// The folder of all fixtures: `given`, or the repository's crates.
#[cfg(not(feature = "cuda"))]
pub fn folder(given: Option<&Path>, _: &Path) -> Result<PathBuf> {
    Ok(given.unwrap_or(Path::new("crates")).to_path_buf())
}

/// Writes what the program has inside to a folder below `work`.
#[cfg(any(test, feature = "cuda"))]
fn unpacked(work: &Path) -> Result<PathBuf> {
    use anyhow::Context;
    let folder = work.join("fixtures");
    for (name, bytes) in FILES {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(&folder);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, bytes))
            .with_context(|| path.display().to_string())?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfpatch_fixture::{Format, found};

    /// What a program for CUDA has inside is what it is asked for, each with its description.
    #[test]
    fn unpacked_fixtures_are_those_that_are_named() -> Result<()> {
        let work = tempfile::tempdir()?;
        let places = found(&unpacked(work.path())?)?;
        let mut names = names();
        names.sort();
        assert_eq!(places.iter().map(|place| place.label()).collect::<Vec<_>>(), names);
        assert!(places.iter().all(|place| place.format != Format::Other), "{places:?}");
        Ok(())
    }
}
