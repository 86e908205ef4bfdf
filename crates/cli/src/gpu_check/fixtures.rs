//! Values of the original program that a GPU is compared with. On a machine with a GPU there is no checkout, so a
//! program that was built for CUDA has them inside.

use anyhow::Result;
use std::path::{Path, PathBuf};

macro_rules! fixtures {
    ($($name:literal $(with $description:literal)?),* $(,)?) => {
        /// Fixtures that are computed on the device.
        const NAMES: &[&str] = &[$($name),*];
        #[cfg(feature = "cuda")]
        const FILES: &[(&str, &[u8])] = &[
            $((concat!($name, ".safetensors"), file!($name, ".safetensors")),)*
            $($((concat!($name, $description), file!($name, $description)),)?)*
            ("objectives/manifest.json", file!("objectives/manifest", ".json")),
        ];
    };
}

#[cfg(feature = "cuda")]
macro_rules! file {
    ($($part:literal),*) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/", $($part),*))
    };
}

fixtures!(
    "selfpatch/vit" with ".json",
    "selfpatch/vit_p8" with ".json",
    "selfpatch/droppath" with ".json",
    "selfpatch/matching" with ".json",
    "selfpatch/aggregation" with ".json",
    "selfpatch/heads" with ".json",
    "selfpatch/loss_2p2" with ".json",
    "selfpatch/train_b" with ".json",
    "objectives/vit_cls",
    "objectives/vit_tokens_selfpatch",
    "objectives/neighbours",
    "objectives/dino",
    "objectives/selfpatch_total_dino",
);

/// Their names, as `parity --only` takes them.
pub fn names() -> Vec<String> {
    NAMES.iter().map(|name| name.to_string()).collect()
}

/// The folder of all fixtures: `given`, or what the program has inside, unpacked below `work`.
#[cfg(feature = "cuda")]
pub fn folder(given: Option<&Path>, work: &Path) -> Result<PathBuf> {
    use anyhow::Context;
    if let Some(given) = given {
        return Ok(given.to_path_buf());
    }
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

/// The folder of all fixtures: `given`, or the repository's.
#[cfg(not(feature = "cuda"))]
pub fn folder(given: Option<&Path>, _: &Path) -> Result<PathBuf> {
    Ok(given.unwrap_or(Path::new("crates/cli/tests/fixtures")).to_path_buf())
}
