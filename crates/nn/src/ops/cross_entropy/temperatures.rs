//! Temperatures of the cross-entropies.

/// Temperatures of the two networks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperatures {
    /// Of the student.
    pub student: f64,
    /// Of the teacher.
    pub teacher: f64,
}
