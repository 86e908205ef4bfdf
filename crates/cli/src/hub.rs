//! `--weights hf://…`, through the crate `selfpatch-hub` that the cargo feature `hub` adds.

use anyhow::Result;
use std::borrow::Cow;
use std::path::Path;

/// The file to read for `--weights`: a path as it is, of an `hf://` name its copy in the cache.
pub fn local(weights: &Path) -> Result<Cow<'_, Path>> {
    match weights.to_str() {
        Some(uri) if uri.starts_with("hf://") => fetch(uri),
        _ => Ok(Cow::Borrowed(weights)),
    }
}

#[cfg(feature = "hub")]
fn fetch(uri: &str) -> Result<Cow<'_, Path>> {
    Ok(Cow::Owned(selfpatch_hub::Remote::parse(uri)?.fetch(uri)?))
}

#[cfg(not(feature = "hub"))]
fn fetch(uri: &str) -> Result<Cow<'_, Path>> {
    anyhow::bail!("{uri}: this build has no hub access; cargo xtask adds it by itself, or build with --features hub")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_paths() -> Result<()> {
        for path in ["w.safetensors", "hf/o/n/w", "./hf://o/n/w"] {
            assert_eq!(local(Path::new(path))?, Path::new(path));
        }
        Ok(())
    }

    #[cfg(not(feature = "hub"))]
    #[test]
    fn a_build_without_the_hub_says_so() {
        let e = local(Path::new("hf://o/n/w")).map_err(|e| e.to_string());
        let says = "this build has no hub access; cargo xtask adds it by itself, or build with --features hub";
        assert_eq!(e, Err(format!("hf://o/n/w: {says}")));
    }
}
