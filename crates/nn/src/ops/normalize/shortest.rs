//! The least length that rows are divided by.

/// Least divisor: a shorter row is divided by it instead of by its own length.
pub(super) const SHORTEST: f32 = 1e-12;
