//! Values of a batch to normalised tensors.

use candle_core::{DType, Device, Result, Tensor};
use selfpatch_datasets::{Crops, Samples};

/// ImageNet's mean per channel, as in the reference's augmentation.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation per channel, as in the reference's augmentation.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The crops of a batch, `[V_g * B, C, S, S]` per crop size, normalised by one mean and one standard
/// deviation per channel.
pub fn crops(batch: &Crops, sizes: &[usize], (mean, std): (&[f32], &[f32]), device: &Device) -> Result<Vec<Tensor>> {
    let groups = [&batch.globals, &batch.locals];
    let channels = mean.len();
    groups.into_iter().zip(sizes).map(|(v, &size)| normalized(v, (channels, size), (mean, std), device)).collect()
}

/// Views `[N, C, S, S]` as `(v - mean) / std`, bytes being divided by 255 first.
pub fn normalized(
    views: &Samples,
    (channels, size): (usize, usize),
    (mean, std): (&[f32], &[f32]),
    device: &Device,
) -> Result<Tensor> {
    let plane = (size * size).max(1);
    let shape = (views.len() / (channels * plane), channels, size, size);
    if let (Samples::Bytes(bytes), false) = (views, device.is_cpu()) {
        // A quarter of the data goes to the device; what is left to do is little there.
        let per_channel = |of: &dyn Fn(usize) -> f32| {
            Tensor::from_vec((0..channels).map(of).collect::<Vec<_>>(), (1, channels, 1, 1), device)
        };
        let bytes = Tensor::from_slice(bytes, shape, device)?.to_dtype(DType::F32)?;
        let scale = per_channel(&|c| 1. / (255. * std[c]))?;
        return bytes.broadcast_mul(&scale)?.broadcast_add(&per_channel(&|c| -mean[c] / std[c])?);
    }
    let of = |v: f32, c: usize| (v - mean[c]) / std[c];
    let mut values = vec![0f32; views.len()];
    let planes = values.chunks_mut(plane).enumerate().map(|(i, out)| (i % channels, out));
    match views {
        Samples::Bytes(bytes) => {
            let table = |c: usize| -> [f32; 256] { std::array::from_fn(|v| of(v as f32 / 255., c)) };
            let tables: Vec<[f32; 256]> = (0..channels).map(table).collect();
            for ((c, out), bytes) in planes.zip(bytes.chunks(plane)) {
                out.iter_mut().zip(bytes).for_each(|(out, &byte)| *out = tables[c][byte as usize]);
            }
        }
        Samples::Floats(floats) => {
            for ((c, out), floats) in planes.zip(floats.chunks(plane)) {
                out.iter_mut().zip(floats).for_each(|(out, &v)| *out = of(v, c));
            }
        }
    }
    Tensor::from_vec(values, shape, device)
}
