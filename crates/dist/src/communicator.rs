//! One process among those that train together.

use candle_core::{Result, Tensor};

/// One process among those that train together. All of them make the same calls in the same order.
pub trait Communicator: Send {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes that train together.
    fn world(&self) -> usize;

    /// Replaces each part by the sum of those of all processes, added in the order of their ranks: the same numbers
    /// everywhere, whoever comes first.
    ///
    /// # Errors
    /// When a process has other lengths, or is gone.
    fn sum(&self, parts: &mut [&mut [f32]]) -> Result<()>;

    /// The rows of all processes in the order of their ranks, `[R, D] -> [R of all, D]`, f32, without gradient.
    /// Processes may have different numbers of rows.
    ///
    /// # Errors
    /// When a process has rows of another width, or is gone.
    fn gather(&self, rows: &Tensor) -> Result<Tensor>;

    /// Whether any process raises `flag`.
    ///
    /// # Errors
    /// When a process is gone.
    fn any(&self, flag: bool) -> Result<bool>;
}
