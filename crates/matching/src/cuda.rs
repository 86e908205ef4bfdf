//! Positive matching on a CUDA device; see `matching.cu`.

use crate::Neighbours;
use candle_core::{DType, Result, Tensor};
use selfpatch_nn::cuda::{Arg, Grid, Module, fusible, launch, run, uninitialised};
use selfpatch_nn::{cuda_args, cuda_module};

const MODULE: Module = cuda_module!("matching");
/// Patches per block: one per warp.
const WARPS: usize = 4;
/// Most shared memory of a block, in bytes.
const SHARED: usize = 96 * 1024;

/// Floats of shared memory for one patch: its token and its similarities.
fn floats(tokens: &Tensor, neighbours: &Neighbours) -> usize {
    (tokens.dims()[2] + neighbours.width()).next_multiple_of(4)
}

/// Whether the kernels accept `tokens [B, N, D]`.
pub(crate) fn applies(tokens: &Tensor, neighbours: &Neighbours) -> bool {
    fusible(tokens) && tokens.elem_count() > 0 && 4 * floats(tokens, neighbours) <= SHARED
}

/// Patch numbers (u32) and similarities (f32) of the `k` best neighbours, `B * N * k` each; nothing leaves the
/// device.
pub(crate) fn choose(tokens: &Tensor, neighbours: &Neighbours, k: usize) -> Result<(Tensor, Tensor)> {
    let ((b, n, dim), width) = (tokens.dims3()?, neighbours.width());
    let bytes = 4 * floats(tokens, neighbours);
    let tokens = tokens.to_dtype(DType::F32)?.contiguous()?;
    let (device, count) = (tokens.device(), b * n);
    let table = Tensor::from_slice(neighbours.table(), (n, width), device)?;
    let inverse = uninitialised(count, DType::F32, device)?;
    let ids = uninitialised(count * k, DType::U32, device)?;
    let best = uninitialised(count * k, DType::F32, device)?;
    let run = run(dim, 4, &[&tokens])?;
    let grid = |warps: usize| Grid::new(count.div_ceil(warps), 32 * warps);
    // Fewer warps if many neighbours need much memory.
    let warps = (SHARED / 2 / bytes).clamp(1, WARPS);
    // SAFETY: each argument is what the kernel declares; the table names patches below `n`, the neighbours of the
    // patches of each of `b` images.
    unsafe {
        let args = cuda_args![&tokens, &inverse, Arg::Long(count), dim];
        launch(device, MODULE, &format!("sp_token_lengths_{run}"), grid(WARPS), args)?;
        let args = cuda_args![&tokens, &inverse, &table, &ids, &best, Arg::Long(count), n, dim, width, k];
        launch(device, MODULE, &format!("sp_choose_positives_{run}"), grid(warps).shared(warps * bytes), args)?;
    }
    Ok((ids, best))
}

#[cfg(test)]
mod tests {
    use crate::{Border, Neighbours, positives};
    use candle_core::{DType, Device, Result, Tensor};
    use selfpatch_nn::random::normal;

    /// The kernel chooses the same positives as the CPU.
    fn agrees(tokens: &Tensor, neighbours: &Neighbours, k: usize) -> Result<()> {
        let Ok(device) = selfpatch_nn::cuda::new_device(0) else {
            println!("no CUDA device: skipped");
            return Ok(());
        };
        let want = positives(tokens, neighbours, k)?;
        let got = positives(&tokens.to_device(&device)?, neighbours, k)?;
        let what = format!("{:?} {:?} {k}", tokens.dims(), neighbours.grid());
        assert_eq!(got.ids.to_vec3::<u32>()?, want.ids.to_vec3::<u32>()?, "{what}");
        assert_eq!(got.rows()?.to_vec1::<u32>()?, want.rows()?.to_vec1::<u32>()?, "{what}");
        assert_eq!(got.similarity.dtype(), DType::F32);
        let values = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
        for (got, want) in values(&got.similarity)?.into_iter().zip(values(&want.similarity)?) {
            assert!((got - want).abs() < 2e-6 || got.is_nan() && want.is_nan(), "{what}: {got}, not {want}");
        }
        let valid = |t: Option<Tensor>| t.map(|t| t.to_vec2::<f32>()).transpose();
        assert_eq!(valid(got.valid)?, valid(want.valid)?, "{what}");
        Ok(())
    }

    #[test]
    fn equals_the_cpu_on_every_border() -> Result<()> {
        for border in [Border::Torus, Border::Clipped] {
            let near = Neighbours::new(4, 5, 3, border)?;
            for (dim, k) in [(37, 5), (64, 4), (200, 8), (4, 1)] {
                agrees(&normal(1, (3, 20, dim))?, &near, k)?;
            }
            let whole = Neighbours::new(9, 8, 99, border)?; // 71 neighbours, all of them
            agrees(&normal(2, (2, 72, 48))?, &whole, 71)?;
            agrees(&normal(3, (1, 2, 5))?, &Neighbours::new(1, 2, 3, border)?, 1)?;
        }
        Ok(())
    }

    #[test]
    fn ties_and_what_is_not_a_number() -> Result<()> {
        for border in [Border::Torus, Border::Clipped] {
            let near = Neighbours::new(3, 4, 3, border)?;
            for dim in [5, 8] {
                // Three directions, one of them a zero vector: many ties.
                let x: Vec<f32> = (0..2 * 12 * dim).map(|i| [1., -0.5, 0.][(i / dim) % 3]).collect();
                let mut ill = x.clone();
                (ill[dim], ill[5 * dim + 1], ill[7 * dim]) = (f32::NAN, f32::INFINITY, 1e30);
                for x in [x, ill] {
                    let x = Tensor::from_vec(x, (2, 12, dim), &Device::Cpu)?;
                    for k in [1, 4, near.width()] {
                        agrees(&x, &near, k)?;
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn tokens_inside_of_another_tensor() -> Result<()> {
        let Ok(device) = selfpatch_nn::cuda::new_device(0) else { return Ok(()) };
        let near = Neighbours::new(4, 4, 3, Border::Torus)?;
        let longer = normal(1, 1 + 2 * 16 * 24)?;
        let of = |all: &Tensor| all.narrow(0, 1, 2 * 16 * 24)?.reshape((2, 16, 24));
        let (want, got) =
            (positives(&of(&longer)?, &near, 4)?, positives(&of(&longer.to_device(&device)?)?, &near, 4)?);
        assert_eq!(got.ids.to_vec3::<u32>()?, want.ids.to_vec3::<u32>()?);
        Ok(())
    }

    #[test]
    fn half_precision_is_widened() -> Result<()> {
        let Ok(device) = selfpatch_nn::cuda::new_device(0) else { return Ok(()) };
        let near = Neighbours::new(4, 4, 3, Border::Torus)?;
        let x = normal(1, (2, 16, 24))?.to_dtype(DType::BF16)?;
        let want = positives(&x.to_dtype(DType::F32)?, &near, 4)?;
        let got = positives(&x.to_device(&device)?, &near, 4)?;
        assert_eq!(got.ids.to_vec3::<u32>()?, want.ids.to_vec3::<u32>()?);
        assert_eq!(got.similarity.dtype(), DType::BF16);
        Ok(())
    }
}
