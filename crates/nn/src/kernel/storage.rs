//! Slices of the elements of tensors.

use crate::Precision;
use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, bail};
use std::ops::{Deref, Range};

/// Whether the fused CPU kernels apply to `x`.
pub(crate) fn fusible(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32 && Precision::current() == Precision::F32
}

/// The elements of a contiguous f32 CPU storage.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => bail!("a fused op needs a contiguous tensor"),
    }
}

/// Runs `f` on the elements of a contiguous f32 CPU tensor, without a copy.
pub(crate) fn with<R>(t: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        Storage::Cpu(s) => f(slice(s, layout)?),
        _ => bail!("a fused CPU op was called on another device"),
    }
}

/// The elements of a contiguous f32 CPU tensor, borrowed.
pub(crate) struct View<'a> {
    /// Read lock of candle on the storage.
    storage: Box<dyn Deref<Target = Storage> + Sync + 'a>,
    range: Range<usize>,
}

impl<'a> View<'a> {
    pub(crate) fn of(t: &'a Tensor) -> Result<Self> {
        let (storage, layout) = t.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("a fused op needs contiguous tensors") };
        match &*storage {
            Storage::Cpu(CpuStorage::F32(_)) => Ok(Self { storage: Box::new(storage), range: start..end }),
            _ => bail!("a fused CPU op was given a tensor of another device or dtype"),
        }
    }
}

impl Deref for View<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &**self.storage {
            Storage::Cpu(CpuStorage::F32(data)) => &data[self.range.clone()],
            _ => &[], // refused by `of`
        }
    }
}
