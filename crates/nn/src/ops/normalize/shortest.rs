//! The least length that rows are divided by.

/// Below this length a row is divided by it instead.
pub(super) const SHORTEST: f32 = 1e-12;
