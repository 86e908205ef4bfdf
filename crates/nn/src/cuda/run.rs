//! Runs of elements that a thread reads and writes at once.

use super::tensors::address;
use candle_core::{Result, Tensor};

/// Bytes of the longest run.
const LONGEST: u64 = 16;

/// How many elements a run has in kernels on rows of `n`: `most`, a power of two, if it divides rows and
/// the addresses of all `tensors`; 1 if not. Names of such kernels end with it.
pub fn run(n: usize, most: usize, tensors: &[&Tensor]) -> Result<usize> {
    for t in tensors {
        if address(t)? % (most * t.dtype().size_in_bytes()) as u64 != 0 {
            return Ok(1);
        }
    }
    Ok(if n.is_multiple_of(most) { most } else { 1 })
}

/// `x`, contiguous, at an address at which any run can begin, for kernels whose runs follow from the width alone.
pub(crate) fn aligned(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    if address(&x)?.is_multiple_of(LONGEST) { Ok(x) } else { x.force_contiguous() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_odd_address, cuda};
    use candle_core::DType;

    #[test]
    fn a_tensor_inside_of_another_has_no_runs_until_it_is_moved() -> Result<()> {
        let Some(device) = cuda() else { return Ok(()) };
        for dtype in [DType::F32, DType::BF16] {
            let x = Tensor::arange(0f32, 64., &device)?.to_dtype(dtype)?.reshape((4, 16))?;
            let odd = at_odd_address(&x)?;
            assert_eq!((run(16, 4, &[&x])?, run(16, 4, &[&x, &odd])?), (4, 1));
            let moved = aligned(&odd)?;
            assert_eq!(run(16, 4, &[&moved])?, 4);
            let values = |t: &Tensor| t.to_dtype(DType::F32)?.to_vec2::<f32>();
            assert_eq!(values(&moved)?, values(&x)?);
        }
        Ok(())
    }
}
