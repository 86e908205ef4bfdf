//! The ranges of numeric flags: whatever lies beyond is refused before anything is allocated.

use clap::builder::{RangedU64ValueParser, TypedValueParser};

/// A whole number between both bounds, which are valid.
pub fn whole(least: u64, most: u64) -> impl TypedValueParser<Value = usize> {
    RangedU64ValueParser::<usize>::new().range(least..=most)
}
