//! Bytes of a batch to normalised tensors.

use candle_core::{Device, Result, Tensor};
use selfpatch_datasets::Batch;

/// ImageNet's mean and standard deviation per channel, as in the reference's augmentation.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// See [`MEAN`].
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The crops of a batch, `[V_g * B, 3, S, S]` per crop size, normalised by [`MEAN`] and [`STD`].
pub fn crops(batch: &Batch, sizes: &[usize], device: &Device) -> Result<Vec<Tensor>> {
    let groups = [&batch.globals, &batch.locals];
    groups.into_iter().zip(sizes).map(|(bytes, &size)| normalized(bytes, size, device)).collect()
}

fn normalized(bytes: &[u8], size: usize, device: &Device) -> Result<Tensor> {
    let plane = size * size;
    let tables: Vec<[f32; 256]> =
        (0..3).map(|c| std::array::from_fn(|v| (v as f32 / 255. - MEAN[c]) / STD[c])).collect();
    let mut values = vec![0f32; bytes.len()];
    for (i, (out, bytes)) in values.chunks_mut(plane).zip(bytes.chunks(plane)).enumerate() {
        let table = &tables[i % 3];
        out.iter_mut().zip(bytes).for_each(|(out, &byte)| *out = table[byte as usize]);
    }
    Tensor::from_vec(values, (bytes.len() / (3 * plane), 3, size, size), device)
}
