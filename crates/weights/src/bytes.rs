//! Bytes of a file as a tensor.

use crate::WeightsError;
use candle_core::{DType, Device, Tensor};
use std::path::Path;

/// The number of elements, or `None` if it (or a stride) overflows; zero sizes do not hide the overflow of other
/// sizes.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    let product = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size.max(1)))?;
    Some(if shape.contains(&0) { 0 } else { product })
}

/// A tensor from little-endian bytes in row-major order.
pub(crate) fn tensor(
    path: &Path,
    name: &str,
    bytes: &[u8],
    dtype: DType,
    shape: &[usize],
    device: &Device,
) -> Result<Tensor, WeightsError> {
    let needed = element_count(shape).and_then(|count| count.checked_mul(dtype.size_in_bytes()));
    if needed != Some(bytes.len()) {
        return Err(WeightsError::Tensor {
            path: path.to_path_buf(),
            name: name.into(),
            reason: format!("shape {shape:?} of {dtype:?} does not fit {} bytes", bytes.len()),
        });
    }
    Tensor::from_raw_buffer(bytes, dtype, shape, device).map_err(|source| WeightsError::Candle {
        path: path.to_path_buf(),
        name: name.into(),
        source: Box::new(source),
    })
}
