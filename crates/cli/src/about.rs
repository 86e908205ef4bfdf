//! What a score of this program belongs to: its version, the moment, the weight file.

use selfpatch_eval::{About, Facts, facts};
use selfpatch_figures::words::utc;
use selfpatch_vit::VitConfig;
use serde_json::json;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seed of the initial values that a weight file is compared with: what it began with is not known.
pub const SEED: u64 = 0;

/// What is known of a score that this program takes at this moment.
pub fn now(data: Facts, protocol: Facts, weights: Facts) -> About {
    About { data, protocol, weights, date: date(SystemTime::now()), version: env!("CARGO_PKG_VERSION").into() }
}

/// A weight file and the network in it.
pub fn weights(path: &Path, vit: &VitConfig) -> Facts {
    let modified = std::fs::metadata(path).and_then(|about| about.modified());
    facts(json!({
        "file": path.display().to_string(),
        "modified": modified.ok().map(date),
        "patch_size": vit.patch_size,
        "embed_dim": vit.embed_dim,
        "depth": vit.depth,
        "num_heads": vit.num_heads,
    }))
}

fn date(time: SystemTime) -> String {
    utc(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moment_version_and_network_are_told() {
        let now = now(Facts::new(), Facts::new(), weights(Path::new("absent"), &VitConfig::new(8, 1, 2, 4)));
        assert!(now.date.ends_with(" UTC") && !now.version.is_empty());
        assert_eq!(now.lines()[0].1, "file absent, patch size 4, embed dim 8, depth 1, num heads 2");
    }
}
