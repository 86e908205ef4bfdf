//! The synthetic test videos: never a training scene, the same for every model, as fine as its patches need.

use super::size::Size;
use selfpatch_datasets::ProceduralVideos;
use selfpatch_eval::Facts;
use serde_json::json;
use std::ops::RangeInclusive;

/// Seed of the scenes.
const SEED: u64 = 0;
/// Number of videos.
const VIDEOS: usize = 12;
/// Frames of each.
const FRAMES: usize = 16;
/// Side of a frame in pixels. The objects are made for it, and scores are taken at it.
const PIXELS: usize = 128;

/// Tokens per side of a frame unless something else is asked for. Objects are 22 to 48 pixels wide, so that 16
/// tokens show each by some 3 x 3 to 6 x 6 of them, too few for its outline, and 32 by four times as many.
pub const GRID: usize = 32;

/// Tokens per side that can be asked for; the work grows with the fourth power.
pub const GRIDS: RangeInclusive<u64> = 8..=64;

/// The videos in words, for frames of `size`.
pub fn facts(size: Size) -> Facts {
    let grid = match size {
        Size::Grid(tokens) => Some(tokens),
        Size::Fixed(_) => None,
    };
    selfpatch_eval::facts(json!({
        "source": "synthetic",
        "videos": VIDEOS,
        "frames": FRAMES,
        "pixels": PIXELS,
        "seed": SEED,
        "grid": grid,
    }))
}

/// The videos.
pub fn videos() -> ProceduralVideos {
    ProceduralVideos::new(SEED, VIDEOS, FRAMES, PIXELS)
}
