//! Which values of a file become 0 and 1.

use serde::{Deserialize, Serialize};

/// The values that become 0 and 1: one pair for all channels, or a pair for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "must be [low, high], or a list of one such pair per channel")]
pub enum Range {
    /// `[low, high]` of every channel.
    All([f32; 2]),
    /// `[low, high]` of each channel in turn.
    Each(Vec<[f32; 2]>),
}

impl Range {
    /// `[low, high]` of a channel; `[0, 1]` for one that has none.
    pub fn of(&self, channel: usize) -> [f32; 2] {
        match self {
            Self::All(range) => *range,
            Self::Each(ranges) => ranges.get(channel).copied().unwrap_or([0., 1.]),
        }
    }

    /// What is wrong with it for images of `channels` channels.
    pub fn problem(&self, channels: usize) -> Option<String> {
        let pairs: &[[f32; 2]] = match self {
            Self::All(range) => std::slice::from_ref(range),
            Self::Each(ranges) if ranges.len() != channels => {
                return Some(format!("has {} pairs, but data.channels is {channels}", ranges.len()));
            }
            Self::Each(ranges) => ranges,
        };
        // Their difference divides, and must itself be a number of single precision.
        let bad = pairs.iter().find(|[low, high]| !(low < high && low.is_finite() && (high - low).is_finite()));
        bad.map(|[low, high]| format!("must be [low, high] with low < high, is [{low}, {high}]"))
    }
}

impl From<[f32; 2]> for Range {
    fn from(range: [f32; 2]) -> Self {
        Self::All(range)
    }
}
