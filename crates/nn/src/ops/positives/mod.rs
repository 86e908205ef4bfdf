//! Class attention over the positives of every patch: the query token of a patch reads itself and the
//! patch's `k` positives. The teacher's targets; keys and values are projected once per patch and
//! read through their row numbers, where the published program projects every gathered copy.

#[cfg(feature = "cuda")]
mod cuda;

use super::class_attention::attend::{attend, each_row, read};
use super::class_attention::{check, linear, norm, update};
use super::class_attention_block::ClassBlockWeights;
use super::gelu;
use crate::ClassBlock;
use crate::kernel::{Buffer, ROWS_PER_TASK, View, fusible, row_block};
use crate::precision::to_full;
use candle_core::{D, Result, Tensor, bail};
use candle_nn::ops::softmax;
use rayon::prelude::*;
use selfpatch_simd::wide;

/// `x [T, D]`; `rows [T, k]` (u32), the row of each positive; `valid [T, k]`, 1 where there is a
/// positive (`None`: everywhere); the learned query `cls` (`D` elements) -> the query of each patch
/// after all blocks, `[T, D]`.
///
/// The fused path has no gradient; with one, it is [`reference()`].
pub fn pool_positives(
    x: &Tensor,
    rows: &Tensor,
    valid: Option<&Tensor>,
    cls: &Tensor,
    blocks: &[ClassBlock],
) -> Result<Tensor> {
    let ((count, dim), (patches, k)) = (x.dims2()?, rows.dims2()?);
    check(dim, cls, blocks)?;
    if patches != count || valid.is_some_and(|v| v.dims() != [patches, k]) {
        bail!("{count} patches do not fit positives {:?}", rows.dims())
    }
    let trained =
        x.track_op() || cls.track_op() || blocks.iter().flat_map(ClassBlock::parameters).any(Tensor::track_op);
    #[cfg(feature = "cuda")]
    if !trained && super::class_attention::cuda::applies(x, cls, blocks)? {
        return cuda::pool(x, rows, valid, cls, blocks);
    }
    if !fusible(x) || trained || x.elem_count() == 0 {
        return reference(x, rows, valid, cls, blocks);
    }
    let ids = rows.flatten_all()?.to_vec1::<u32>()?;
    if ids.iter().any(|&row| row as usize >= count) {
        bail!("a positive lies outside of the {count} patches")
    }
    let valid = valid.map(|v| v.flatten_all()?.to_vec1::<f32>()).transpose()?;
    let (x, cls) = (x.contiguous()?, cls.contiguous()?);
    let c = pool(&View::of(&x)?, (&ids, k), valid.as_deref(), &View::of(&cls)?, blocks)?;
    Tensor::from_vec(c, (count, dim), x.device())
}

/// Aggregated positives from candle's own ops.
pub fn reference(
    x: &Tensor,
    rows: &Tensor,
    valid: Option<&Tensor>,
    cls: &Tensor,
    blocks: &[ClassBlock],
) -> Result<Tensor> {
    let ((count, d), k) = (x.dims2()?, rows.dim(1)?);
    let ids = rows.flatten_all()?;
    let mut c = cls.reshape((1, 1, d))?;
    for block in blocks {
        let head = d / block.heads;
        let (u_x, u_c) = (norm(x, &block.norm1)?, norm(&c, &block.norm1)?);
        let own = |t: Tensor| t.broadcast_as((count, 1, d));
        let with_own = |layer| -> Result<Tensor> {
            let near = linear(&u_x, layer)?.index_select(&ids, 0)?.reshape((count, k, d))?;
            Tensor::cat(&[&own(linear(&u_c, layer)?)?, &near], 1)?.reshape((count, 1 + k, block.heads, head))
        };
        let q = own((linear(&u_c, &block.q)? * (head as f64).powf(-0.5))?)?.reshape((count, 1, block.heads, head))?;
        let q = to_full(&q)?;
        let mut scores = to_full(&with_own(&block.k)?)?.broadcast_mul(&q)?.sum(D::Minus1)?; // [T, 1 + k, heads]
        if let Some(valid) = valid {
            let ones = Tensor::ones((count, 1), valid.dtype(), valid.device())?;
            let penalty = ((Tensor::cat(&[&ones, valid], 1)? - 1.0)? * 1e30)?; // probability 0
            scores = scores.broadcast_add(&penalty.unsqueeze(2)?)?;
        }
        let probs = softmax(&scores, 1)?.unsqueeze(D::Minus1)?;
        let read = to_full(&with_own(&block.v)?)?.broadcast_mul(&probs)?.sum(1)?.reshape((count, 1, d))?;
        c = update(&own(c)?.contiguous()?, &read, block)?;
    }
    c.reshape((count, d))
}

fn pool(
    x: &[f32],
    (ids, k): (&[u32], usize),
    valid: Option<&[f32]>,
    cls: &[f32],
    blocks: &[ClassBlock],
) -> Result<Vec<f32>> {
    let n = cls.len();
    let count = x.len() / n;
    let mut c = cls.to_vec(); // one query for all patches, until they differ
    for block in blocks {
        let w = ClassBlockWeights::forward_of(block, count)?;
        let (d, task) = (n / w.heads, ROWS_PER_TASK * n);
        let mut u = Buffer::stale(x.len());
        u.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(u, x)| w.norm1.rows(x, None, u));
        let kv = w.keys_and_values(&u);
        let mut u_c = Buffer::stale(c.len());
        u_c.par_chunks_mut(task).zip(c.par_chunks(task)).for_each(|(u, c)| w.norm1.rows(c, None, u));
        let own_kv = w.keys_and_values(&u_c);
        let mut q = Buffer::stale(c.len());
        w.q.forward(&u_c, &mut q);

        let shared = c.len() == n;
        let mut out = u; // no longer needed
        each_row(
            &mut out,
            n,
            #[inline(always)]
            |i, out| {
                let own = if shared { 0 } else { i };
                let near = &ids[i * k..][..k];
                let present = |j: usize| valid.is_none_or(|v| v[i * k + j] != 0.);
                let positives = (0..k).filter(|&j| present(j)).map(|j| &kv[near[j] as usize * 2 * n..][..2 * n]);
                let rows: Vec<&[f32]> = std::iter::once(&own_kv[own * 2 * n..][..2 * n]).chain(positives).collect();
                let mut p = vec![0f32; rows.len()];
                for h in 0..w.heads {
                    attend(&q[own * n + h * d..][..d], rows.iter().map(|row| &row[h * d..][..d]), &mut p);
                    read(&p, rows.iter().map(|row| &row[n + h * d..][..d]), &mut out[h * d..][..d]);
                }
            },
        );
        c = finish(&w, &out, c, count);
    }
    Ok(c)
}

/// Projection, residual and feed-forward half for every patch; `c` holds one query, or one per patch.
fn finish(w: &ClassBlockWeights, out: &[f32], c: Vec<f32>, count: usize) -> Vec<f32> {
    let n = w.norm2.width();
    let hidden = w.fc1.outputs();
    let mut next = if c.len() == n && count != 1 { c.repeat(count) } else { c };
    let rows = row_block(count);
    let (proj_bias, fc1_bias, fc2_bias) = (w.proj.bias(), w.fc1.bias(), w.fc2.bias());
    next.par_chunks_mut(rows * n).zip(out.par_chunks(rows * n)).for_each(|(c, out)| {
        let size = c.len() / n * hidden;
        let (mut y, mut u, mut h) = (Buffer::stale(c.len()), Buffer::stale(size), Buffer::stale(size));
        w.proj.product(out, &mut y);
        add(c, &y, &proj_bias);
        w.norm2.rows(c, None, &mut y);
        w.fc1.product(&y, &mut u);
        gelu::forward_biased(&mut u, &fc1_bias, &mut h);
        w.fc2.product(&h, &mut y);
        add(c, &y, &fc2_bias);
    });
    next
}

/// `c += y + bias` for every row.
fn add(c: &mut [f32], y: &[f32], bias: &[f32]) {
    let n = bias.len();
    wide!({
        for (c, y) in c.chunks_exact_mut(n).zip(y.chunks_exact(n)) {
            c.iter_mut().zip(y).zip(bias).for_each(|((c, y), b)| *c += y + b);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Params;
    use crate::random::normal;
    use candle_core::{DType, Device, Var};

    fn module(params: &Params, dtype: DType, depth: usize, device: &Device) -> Result<(Tensor, Vec<ClassBlock>)> {
        let vb = params.builder(dtype, device);
        let cls = vb.get_with_hints((1, 1, 24), "cls", candle_nn::Init::Randn { mean: 0., stdev: 1. })?;
        let blocks = (0..depth).map(|i| ClassBlock::new(24, 3, 2, 1e-6, vb.pp(i))).collect::<Result<Vec<_>>>()?;
        for (i, (_, var)) in params.iter().enumerate() {
            let noise = (normal(i as u64, var.shape())? * 0.3)?.to_dtype(dtype)?.to_device(device)?;
            var.set(&(var.as_tensor() + noise)?.detach())?;
        }
        Ok((cls, blocks))
    }

    #[test]
    fn equals_reference_with_and_without_missing_positives() -> Result<()> {
        for (count, k, depth) in [(1, 1, 1), (5, 3, 2), (300, 4, 2), (70, 80, 3)] {
            let x = normal(50, (count, 24))?;
            let ids: Vec<u32> = (0..count * k).map(|i| (i * 31 % count) as u32).collect();
            let ids = Tensor::from_vec(ids, (count, k), &Device::Cpu)?;
            let valid: Vec<f32> = (0..count * k).map(|i| f32::from(i % 7 != 3)).collect();
            let valid = Tensor::from_vec(valid, (count, k), &Device::Cpu)?;
            for valid in [None, Some(&valid)] {
                let (cls, blocks) = module(&Params::frozen(1), DType::F32, depth, &Device::Cpu)?;
                let got = pool_positives(&x, &ids, valid, &cls, &blocks)?;
                let (cls, blocks) = module(&Params::frozen(1), DType::F64, depth, &Device::Cpu)?;
                let valid = valid.map(|v| v.to_dtype(DType::F64)).transpose()?;
                let want = reference(&x.to_dtype(DType::F64)?, &ids, valid.as_ref(), &cls, &blocks)?;
                let error = (got.to_dtype(DType::F64)? - &want)?.abs()?.max_all()?.to_scalar::<f64>()?;
                let size = want.abs()?.max_all()?.to_scalar::<f64>()?.max(1.);
                assert!(error < 1e-5 * size, "{count} {k} {depth}: {error:e} of {size:e}");
            }
        }
        Ok(())
    }

    #[test]
    fn strangers_are_refused_and_gradients_take_the_plain_path() -> Result<()> {
        let (cls, blocks) = module(&Params::frozen(1), DType::F32, 1, &Device::Cpu)?;
        let x = normal(1, (4, 24))?;
        let ids = |last: u32| Tensor::new(&[[0u32], [1], [2], [last]], &Device::Cpu);
        assert!(pool_positives(&x, &ids(4)?, None, &cls, &blocks).is_err());
        let tracked = Var::from_tensor(&x)?;
        let grads = pool_positives(&tracked, &ids(3)?, None, &cls, &blocks)?.sum_all()?.backward()?;
        assert!(grads.get(&tracked).is_some());
        Ok(())
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn equals_reference_on_cuda() -> Result<()> {
        use crate::{Precision, autocast};
        let Some(cuda) = crate::testing::cuda() else { return Ok(()) };
        for (count, k, depth) in [(1, 1, 1), (5, 3, 2), (300, 4, 2), (70, 80, 3)] {
            let x = normal(50, (count, 24))?;
            let ids: Vec<u32> = (0..count * k).map(|i| (i * 31 % count) as u32).collect();
            let ids = Tensor::from_vec(ids, (count, k), &Device::Cpu)?;
            let valid: Vec<f32> = (0..count * k).map(|i| f32::from(i % 7 != 3)).collect();
            let valid = Tensor::from_vec(valid, (count, k), &Device::Cpu)?;
            for valid in [None, Some(&valid)] {
                let (cls, blocks) = module(&Params::frozen(1), DType::F64, depth, &Device::Cpu)?;
                let valid64 = valid.map(|v| v.to_dtype(DType::F64)).transpose()?;
                let want = reference(&x.to_dtype(DType::F64)?, &ids, valid64.as_ref(), &cls, &blocks)?;
                let size = want.abs()?.max_all()?.to_scalar::<f64>()?.max(1.);
                let (cls, blocks) = module(&Params::frozen(1), DType::F32, depth, &cuda)?;
                let valid = valid.map(|v| v.to_device(&cuda)).transpose()?;
                for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 3e-2), (Precision::F16, 5e-3)]
                {
                    let pool =
                        || pool_positives(&x.to_device(&cuda)?, &ids.to_device(&cuda)?, valid.as_ref(), &cls, &blocks);
                    let got = autocast(precision, pool)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
                    let error = (got - &want)?.abs()?.max_all()?.to_scalar::<f64>()?;
                    assert!(error < tolerance * size, "{precision:?} {count} {k} {depth}: {error:e} of {size:e}");
                }
            }
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn strangers_give_no_numbers_on_cuda() -> Result<()> {
        let Some(cuda) = crate::testing::cuda() else { return Ok(()) };
        let (cls, blocks) = module(&Params::frozen(1), DType::F32, 1, &cuda)?;
        let ids = Tensor::new(&[[0u32], [1], [2], [4]], &cuda)?;
        let got =
            pool_positives(&normal(1, (4, 24))?.to_device(&cuda)?, &ids, None, &cls, &blocks)?.to_vec2::<f32>()?;
        assert!(got[..3].iter().flatten().all(|x| x.is_finite()));
        assert!(got[3].iter().all(|x| x.is_nan()));
        Ok(())
    }
}
