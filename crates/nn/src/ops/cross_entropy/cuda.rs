//! CUDA kernels of the cross-entropies. No number comes back to the host: losses stay on the device.

use super::temperatures::Temperatures;
use crate::cuda::{Grid, Module, launch, record, run, scale, single, spread, suffix, uninitialised};
use crate::ops::sum_rows;
use crate::{cuda_args, cuda_module};
use candle_core::{DType, Device, Result, Tensor};

const CROSS_ENTROPY: Module = cuda_module!("cross_entropy");

pub(super) fn matched(
    student: &Tensor,
    teacher: &Tensor,
    center: &Tensor,
    weights: &[f64],
    temperatures: Temperatures,
) -> Result<(Tensor, Tensor)> {
    let (student, teacher, center) = (single(student)?, single(teacher)?, single(center)?);
    let weights = on_device(weights, 1., student.device())?;
    let losses = uninitialised(weights.shape(), DType::F32, student.device())?;
    let gradient = student.track_op().then_some(DType::F32);
    let s = student.detach().contiguous()?;
    let gradient = compare((&s, &teacher), &center, (&weights, &losses), temperatures, gradient)?;
    let loss = weighted_sum(&losses, Some(&weights), 1.)?;
    let loss = record(&student, &student, loss, move |dloss| {
        gradient.map(|gradient| scale(&gradient, dloss, 1.).map(|()| gradient)).transpose()
    })?;
    Ok((loss, (sum_rows(&teacher)? / weights.elem_count() as f64)?))
}

/// Writes the losses of rows of logits `[R, K]` against the sharpened logits of the teacher to `losses [R]`;
/// their gradient, each row's times its weight, is made in the type that is asked for.
pub(in crate::ops) fn compare(
    (student, teacher): (&Tensor, &Tensor),
    center: &Tensor,
    (weights, losses): (&Tensor, &Tensor),
    temperatures: Temperatures,
    gradient: Option<DType>,
) -> Result<Option<Tensor>> {
    let ((_, k), device) = (student.dims2()?, student.device());
    let gradient = gradient.map(|dtype| uninitialised(student.shape(), dtype, device)).transpose()?;
    let d = gradient.as_ref();
    let v = run(k, 4, &[student, teacher, center, d.unwrap_or(student)])?;
    let name = format!("sp_matched_{}_{v}", suffix(d.map_or(DType::F32, |d| d.dtype()))?);
    let (soft, sharp) = ((1. / temperatures.student) as f32, (1. / temperatures.teacher) as f32);
    let args = cuda_args![student, teacher, center, weights, losses, d, k, soft, sharp];
    // SAFETY: the arguments are those of the kernel; only the losses are not new.
    unsafe { launch(device, CROSS_ENTROPY, &name, block_per_row(student)?, args) }?;
    Ok(gradient)
}

pub(super) fn paired(
    student: &Tensor,
    targets: &Tensor,
    pairs: &[Vec<usize>],
    weights: &[f64],
    temperature: f64,
) -> Result<Tensor> {
    let (student, targets) = (single(student)?, single(targets)?);
    let ((rows, k), device, grid) = (student.dims2()?, student.device().clone(), block_per_row(&student)?);
    let (pairs, weights) = (flat(pairs, &device)?, on_device(weights, 1., &device)?);
    let (losses, sums) = (uninitialised(rows, DType::F32, &device)?, uninitialised((rows, 2), DType::F32, &device)?);
    let s = student.detach().contiguous()?;
    let (v, soft) = (run(k, 4, &[&s, &targets])?, (1. / temperature) as f32);
    let args = cuda_args![&s, &targets, &pairs, &losses, &sums, k, soft];
    // SAFETY: the arguments are those of the kernel; what it writes is new.
    unsafe { launch(&device, CROSS_ENTROPY, &format!("sp_paired_loss_{v}"), grid, args) }?;
    let loss = weighted_sum(&losses, Some(&weights), 1.)?;
    // The logits are kept by the graph anyway: less is read and written than with a gradient that waits.
    record(&student, &student, loss, move |dloss| {
        let d = uninitialised((rows, k), DType::F32, &device)?;
        let v = run(k, 4, &[&s, &targets, &d])?;
        let args = cuda_args![&s, &targets, &pairs, &sums, &weights, dloss, &d, k, soft];
        // SAFETY: as above.
        unsafe { launch(&device, CROSS_ENTROPY, &format!("sp_paired_gradient_{v}"), grid, args) }?;
        Ok(Some(d))
    })
}

pub(super) fn sharpened(x: &Tensor, center: &Tensor, temperature: f64) -> Result<(Tensor, Tensor)> {
    let (x, center) = (single(x)?, single(center)?);
    let ((rows, k), device) = (x.dims2()?, x.device());
    let (p, entropies) = (uninitialised((rows, k), DType::F32, device)?, uninitialised(rows, DType::F32, device)?);
    let name = format!("sp_sharpened_{}", run(k, 4, &[&x, &center, &p])?);
    let args = cuda_args![&x, &center, &p, &entropies, k, (1. / temperature) as f32];
    // SAFETY: the arguments are those of the kernel; what it writes is new.
    unsafe { launch(device, CROSS_ENTROPY, &name, block_per_row(&x)?, args) }?;
    Ok((p, weighted_sum(&entropies, None, 1. / rows as f32)?))
}

/// `factor * sum_r values_r weights_r`, a scalar; weights are 1 if there are none.
pub(in crate::ops) fn weighted_sum(values: &Tensor, weights: Option<&Tensor>, factor: f32) -> Result<Tensor> {
    let sum = uninitialised((), DType::F32, values.device())?;
    let args = cuda_args![values, weights, factor, &sum, values.elem_count()];
    // SAFETY: the arguments are those of the kernel; what it writes is new.
    unsafe { launch(values.device(), CROSS_ENTROPY, "sp_weighted_sum", Grid::new(1, 1024), args) }?;
    Ok(sum)
}

/// Weights of the host on the device, in units of `unit`.
pub(in crate::ops) fn on_device(weights: &[f64], unit: f64, device: &Device) -> Result<Tensor> {
    spread(weights.iter().map(|w| (1, (w / unit) as f32)), device)
}

/// The pairs of all rows in one list: first where those of each row begin and those of the last one end.
fn flat(pairs: &[Vec<usize>], device: &Device) -> Result<Tensor> {
    let mut list = vec![0; pairs.len() + 1];
    for (row, pairs) in pairs.iter().enumerate() {
        list[row] = list.len() as u32;
        list.extend(pairs.iter().map(|&pair| pair as u32));
    }
    list[pairs.len()] = list.len() as u32;
    Tensor::new(list, device)
}

/// Grid of one block per row, with about 16 elements for each thread.
fn block_per_row(logits: &Tensor) -> Result<Grid> {
    let (rows, k) = logits.dims2()?;
    Ok(Grid::new(rows, (k / 16).next_multiple_of(32).clamp(32, 1024)))
}

#[cfg(test)]
mod tests {
    use crate::Precision::F32;
    use crate::ops::{
        Temperatures, matched_cross_entropy, matched_cross_entropy_reference, paired_cross_entropy,
        paired_cross_entropy_reference, sharpened, sharpened_reference,
    };
    use crate::random::normal;
    use crate::testing::{Case, cuda, equal_on_cuda};
    use candle_core::{DType, Result, Tensor};
    use candle_nn::VarBuilder;

    const TEMPERATURES: Temperatures = Temperatures { student: 0.1, teacher: 0.04 };

    /// What multiplies the loss before the backward pass.
    const LOSS_SCALE: f64 = 65536.;

    fn uneven(rows: usize) -> Vec<f64> {
        (0..rows).map(|r| 1e-5 + (r % 3) as f64 / 70.).collect()
    }

    /// Random numbers of the kind and on the device of `like`.
    fn random(seed: u64, shape: (usize, usize), size: f64, like: &Tensor) -> Result<Tensor> {
        (normal(seed, shape)? * size)?.to_dtype(like.dtype())?.to_device(like.device())
    }

    /// One row of all that is given.
    fn joined(scalar: &Tensor, more: &Tensor) -> Result<Tensor> {
        Tensor::cat(&[scalar.reshape((1, 1))?, more.reshape((1, ()))?], 1)
    }

    #[test]
    fn matched_rows_equal_the_reference() -> Result<()> {
        type Op = fn(&Tensor, &Tensor, &Tensor, &[f64], Temperatures) -> Result<(Tensor, Tensor)>;
        let sizes = [(7, 300), (3, 1001), (131, 64), (2, 4096), (2, 9000), (1, 1)];
        let ops = |size| [(size, matched_cross_entropy as Op), (size, matched_cross_entropy_reference)];
        for ((rows, k), op) in sizes.into_iter().flat_map(ops) {
            let inputs = |x: &Tensor| -> Result<_> { Ok((random(5, (rows, k), 0.3, x)?, random(6, (1, k), 0.1, x)?)) };
            let scaled = |(loss, mean): (Tensor, Tensor)| joined(&(loss * LOSS_SCALE)?, &mean);
            let case = Case {
                inputs: &[&[rows, k]],
                build: |_: VarBuilder| Ok(()),
                fused: |x: &[Tensor], _: &()| {
                    let (t, c) = inputs(&x[0])?;
                    scaled(op(&x[0], &t, &c, &uneven(rows), TEMPERATURES)?)
                },
                reference: |x: &[Tensor], _: &()| {
                    let (t, c) = inputs(&x[0])?;
                    scaled(matched_cross_entropy_reference(&x[0], &t, &c, &uneven(rows), TEMPERATURES)?)
                },
            };
            equal_on_cuda(F32, 1e-5, case)?;
        }
        Ok(())
    }

    #[test]
    fn paired_rows_equal_the_reference() -> Result<()> {
        let pairs = [vec![1], vec![0], vec![0, 1], vec![], vec![2, 0, 1]];
        type Op = fn(&Tensor, &Tensor, &[Vec<usize>], &[f64], f64) -> Result<Tensor>;
        for k in [1, 300, 1001, 4096, 9000] {
            let ops = |half| [(half, paired_cross_entropy as Op), (half, paired_cross_entropy_reference)];
            for (half, op) in [false, true].into_iter().flat_map(ops) {
                let inputs = |x: &Tensor| -> Result<_> {
                    let targets = sharpened_reference(&random(5, (3, k), 0.3, x)?, &random(6, (1, k), 0.1, x)?, 0.04)?;
                    let x = if half { x.to_dtype(DType::BF16)?.to_dtype(x.dtype())? } else { x.clone() };
                    Ok((x, targets.0))
                };
                let case = Case {
                    inputs: &[&[5, k]],
                    build: |_: VarBuilder| Ok(()),
                    fused: |x: &[Tensor], _: &()| {
                        let (x, p) = inputs(&x[0])?;
                        let x = if half { x.to_dtype(DType::BF16)? } else { x };
                        op(&x, &p, &pairs, &uneven(5), 0.1)? * LOSS_SCALE
                    },
                    reference: |x: &[Tensor], _: &()| {
                        let (x, p) = inputs(&x[0])?;
                        paired_cross_entropy_reference(&x, &p, &pairs, &uneven(5), 0.1)? * LOSS_SCALE
                    },
                };
                equal_on_cuda(F32, if half { 2e-2 } else { 1e-5 }, case)?;
            }
        }
        Ok(())
    }

    #[test]
    fn sharpened_equals_the_reference() -> Result<()> {
        let Some(device) = cuda() else { return Ok(()) };
        type Op = fn(&Tensor, &Tensor, f64) -> Result<(Tensor, Tensor)>;
        let sizes = [(5, 300), (3, 1001), (2, 4096), (2, 9000), (1, 65_537), (1, 1)];
        let ops = |size| [(size, sharpened as Op), (size, sharpened_reference)];
        for ((rows, k), op) in sizes.into_iter().flat_map(ops) {
            let like = Tensor::zeros(1, DType::F64, &candle_core::Device::Cpu)?;
            let (x, c) = (random(1, (rows, k), 0.3, &like)?, random(2, (1, k), 0.1, &like)?);
            let (want, want_entropy) = sharpened_reference(&x, &c, 0.04)?;
            let on_gpu = |t: &Tensor| t.to_dtype(DType::F32)?.to_device(&device);
            let (p, entropy) = op(&on_gpu(&x)?, &on_gpu(&c)?, 0.04)?;
            let p = p.to_device(like.device())?.to_dtype(DType::F64)?;
            let error = (p - &want)?.abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(error <= 1e-5 * want.max_all()?.to_scalar::<f64>()?, "{rows} {k}: {error:e}");
            let (entropy, want) = (f64::from(entropy.to_scalar::<f32>()?), want_entropy.to_scalar::<f64>()?);
            assert!((entropy - want).abs() < 1e-5 * want.max(1.), "{rows} {k}: {entropy} {want}");
        }
        Ok(())
    }

    #[test]
    fn targets_of_other_types_are_refused() -> Result<()> {
        let Some(device) = cuda() else { return Ok(()) };
        let x = normal(1, (2, 8))?.to_device(&device)?;
        let c = x.narrow(0, 0, 1)?;
        for dtype in [DType::F64, DType::U8] {
            let (t, d) = (x.to_dtype(dtype)?, c.to_dtype(dtype)?);
            assert!(matched_cross_entropy(&x, &t, &c, &[1., 1.], TEMPERATURES).is_err(), "{dtype:?}");
            assert!(matched_cross_entropy(&x, &x, &d, &[1., 1.], TEMPERATURES).is_err(), "{dtype:?}");
            assert!(paired_cross_entropy(&x, &t, &[vec![0], vec![1]], &[1., 1.], 0.1).is_err(), "{dtype:?}");
            assert!(sharpened(&x, &d, 0.04).is_err(), "{dtype:?}");
        }
        Ok(())
    }

    #[test]
    fn large_logits_stay_finite_and_what_is_not_a_number_is_seen() -> Result<()> {
        let Some(device) = cuda() else { return Ok(()) };
        let paired = |s: [f32; 3], q: [f32; 3]| -> Result<f32> {
            let (s, q) = (Tensor::new(&[s], &device)?, Tensor::new(&[q], &device)?);
            paired_cross_entropy(&s, &q, &[vec![0]], &[1.], 0.1)?.to_scalar()
        };
        let matched = |s: [f32; 3], t: [f32; 3]| -> Result<f32> {
            let (s, t) = (Tensor::new(&[s], &device)?, Tensor::new(&[t], &device)?);
            matched_cross_entropy(&s, &t, &t.zeros_like()?, &[1.], TEMPERATURES)?.0.to_scalar()
        };
        let (large, nan) = ([1e4, -1e4, 0.], [0., f32::NAN, 1.]);
        assert_eq!([paired(large, [1., 0., 0.])?, matched(large, large)?], [0., 0.]);
        assert!(paired(nan, [1., 0., 0.])?.is_nan() && paired(large, nan)?.is_nan());
        assert!(matched(nan, large)?.is_nan() && matched(large, nan)?.is_nan());
        assert!(paired([0., f32::INFINITY, 1.], [1., 0., 0.])?.is_nan());
        let t = Tensor::new(&[nan], &device)?;
        assert!(sharpened(&t, &t.zeros_like()?, 0.04)?.1.to_scalar::<f32>()?.is_nan());
        Ok(())
    }
}
