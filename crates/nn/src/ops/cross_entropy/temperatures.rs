//! Temperatures of the cross-entropies.

/// Temperatures of the two networks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperatures {
    /// Temperature of the student.
    pub student: f64,
    /// Temperature of the teacher.
    pub teacher: f64,
}
