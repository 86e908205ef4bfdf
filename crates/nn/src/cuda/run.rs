//! Runs of elements that a thread reads and writes at once.

use super::address;
use candle_core::{Result, Tensor};

/// How many elements a run has in kernels on rows of `n`: `most`, a power of two, if it divides rows and
/// the addresses of all `tensors`; 1 if not. Names of such kernels end with it.
pub(crate) fn run(n: usize, most: usize, tensors: &[&Tensor]) -> Result<usize> {
    for t in tensors {
        if address(t)? % (most * t.dtype().size_in_bytes()) as u64 != 0 {
            return Ok(1);
        }
    }
    Ok(if n.is_multiple_of(most) { most } else { 1 })
}
