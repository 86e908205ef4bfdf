//! Both objectives' losses with their gradients in one pass over the logits:
//! `loss = sum_r w_r H_r`, `H_r = -sum_j q_rj log_softmax(s_r / T)_j`,
//! `d loss / d s_r = w_r (mass_r softmax(s_r / T) - q_r) / T`, where the target `q_r` is made on the fly
//! and `mass_r` is its sum (a sum of several distributions gives the sum of their losses).

#[cfg(feature = "cuda")]
pub(super) mod cuda;
mod temperatures;

use crate::kernel::{self, Buffer, ROWS_PER_TASK, View};
use crate::precision::to_full;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use selfpatch_simd::wide;
use std::sync::Mutex;
pub use temperatures::Temperatures;

/// Each student row against the centred, sharpened teacher row at the same place:
/// `q_r = softmax((t_r - c) / T_t)`. `student`, `teacher` `[R, K]`, `center [1, K]`, one weight per row
/// -> the weighted sum of the rows' losses (a scalar), and the mean of the teacher's rows, `[1, K]`.
pub fn matched_cross_entropy(
    student: &Tensor,
    teacher: &Tensor,
    center: &Tensor,
    weights: &[f64],
    temperatures: Temperatures,
) -> Result<(Tensor, Tensor)> {
    let (rows, k) = student.dims2()?;
    if teacher.dims() != [rows, k] || center.dims() != [1, k] || weights.len() != rows {
        bail!(
            "student {:?}, teacher {:?}, centre {:?} and {} weights do not fit",
            student.dims(),
            teacher.dims(),
            center.dims(),
            weights.len()
        )
    }
    let (teacher, center) = (teacher.detach().contiguous()?, center.detach().contiguous()?);
    if rows * k == 0 {
        return matched_cross_entropy_reference(student, &teacher, &center, weights, temperatures);
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::fusible(student) {
        return cuda::matched(student, &teacher, &center, weights, temperatures);
    }
    if !kernel::fusible(student) {
        return matched_cross_entropy_reference(student, &teacher, &center, weights, temperatures);
    }
    let (t, c) = (View::of(&teacher)?, View::of(&center)?);
    let (t, c): (&[f32], &[f32]) = (&t, &c);
    let inverse = (1. / temperatures.teacher) as f32;
    let target = |q: &mut [f32], r: usize, sum: &mut [f32]| {
        let t = &t[r * k..][..k];
        wide!({
            q.iter_mut().zip(t.iter().zip(c)).for_each(|(q, (t, c))| *q = t - c);
            sum.iter_mut().zip(t).for_each(|(sum, t)| *sum += t);
        });
        sharpen(q, inverse);
    };
    let (loss, sums) = rows_loss(student, weights, temperatures.student, (ROWS_PER_TASK, k), target)?;
    let mut mean = kernel::add_up(sums, k);
    mean.iter_mut().for_each(|m| *m /= rows as f32);
    Ok((loss, Tensor::from_vec(mean, (1, k), student.device())?))
}

/// [`matched_cross_entropy`] from candle's own ops.
pub fn matched_cross_entropy_reference(
    student: &Tensor,
    teacher: &Tensor,
    center: &Tensor,
    weights: &[f64],
    temperatures: Temperatures,
) -> Result<(Tensor, Tensor)> {
    let (teacher, center) = (to_full(teacher)?, to_full(center)?);
    let targets = candle_nn::ops::softmax(&(teacher.broadcast_sub(&center)? / temperatures.teacher)?, D::Minus1)?;
    let losses = row_losses(student, &targets, temperatures.student)?;
    Ok((weighted_sum(&losses, weights)?, teacher.mean_keepdim(0)?))
}

/// Student row `r` against the sum of some of the distributions `targets [G, K]`: those numbered
/// `pairs[r]`. `student [R, K]`, one weight per row -> the weighted sum of the rows' losses, a scalar.
pub fn paired_cross_entropy(
    student: &Tensor,
    targets: &Tensor,
    pairs: &[Vec<usize>],
    weights: &[f64],
    temperature: f64,
) -> Result<Tensor> {
    let ((rows, k), (count, width)) = (student.dims2()?, targets.dims2()?);
    if width != k || pairs.len() != rows || weights.len() != rows || pairs.iter().flatten().any(|&g| g >= count) {
        bail!("student {:?} and targets {:?} do not fit {} pairings", student.dims(), targets.dims(), pairs.len())
    }
    let targets = targets.detach().contiguous()?;
    if rows * k == 0 {
        return paired_cross_entropy_reference(student, &targets, pairs, weights, temperature);
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::fusible(student) {
        return cuda::paired(student, &targets, pairs, weights, temperature);
    }
    if !kernel::fusible(student) {
        return paired_cross_entropy_reference(student, &targets, pairs, weights, temperature);
    }
    let p = View::of(&targets)?;
    let p: &[f32] = &p;
    let target = |q: &mut [f32], r: usize, _: &mut [f32]| match pairs[r][..] {
        [] => q.fill(0.),
        [first, ref more @ ..] => {
            q.copy_from_slice(&p[first * k..][..k]);
            for &g in more {
                wide!(q.iter_mut().zip(&p[g * k..][..k]).for_each(|(q, p)| *q += p));
            }
        }
    };
    Ok(rows_loss(student, weights, temperature, (1, 0), target)?.0)
}

/// [`paired_cross_entropy`] from candle's own ops.
pub fn paired_cross_entropy_reference(
    student: &Tensor,
    targets: &Tensor,
    pairs: &[Vec<usize>],
    weights: &[f64],
    temperature: f64,
) -> Result<Tensor> {
    let mut chosen = vec![0f64; pairs.len() * targets.dim(0)?];
    for (row, pairs) in chosen.chunks_mut(targets.dim(0)?.max(1)).zip(pairs) {
        pairs.iter().for_each(|&g| row[g] += 1.);
    }
    let chosen = Tensor::from_vec(chosen, (pairs.len(), targets.dim(0)?), student.device())?;
    let targets = to_full(targets)?;
    let matched = chosen.to_dtype(targets.dtype())?.matmul(&targets)?;
    weighted_sum(&row_losses(student, &matched, temperature)?, weights)
}

fn row_losses(student: &Tensor, targets: &Tensor, temperature: f64) -> Result<Tensor> {
    let log_probs = candle_nn::ops::log_softmax(&(to_full(student)? / temperature)?, D::Minus1)?;
    (targets.detach() * log_probs)?.sum(D::Minus1)?.neg()
}

fn weighted_sum(losses: &Tensor, weights: &[f64]) -> Result<Tensor> {
    let weights = Tensor::from_slice(weights, weights.len(), losses.device())?.to_dtype(losses.dtype())?;
    (losses * weights)?.sum_all()
}

/// `softmax((t_r - c) / T)` of every row: `x [R, K]`, `center [1, K]` -> probabilities `[R, K]` and the
/// mean entropy of the rows in nats, a scalar. No gradient.
pub fn sharpened(x: &Tensor, center: &Tensor, temperature: f64) -> Result<(Tensor, Tensor)> {
    let (rows, k) = x.dims2()?;
    if center.dims() != [1, k] {
        bail!("rows of {k} logits need a centre [1, {k}], not {:?}", center.dims())
    }
    let (x, center) = (x.detach().contiguous()?, center.detach().contiguous()?);
    if rows * k == 0 {
        return sharpened_reference(&x, &center, temperature);
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::fusible(&x) {
        return cuda::sharpened(&x, &center, temperature);
    }
    if !kernel::fusible(&x) {
        return sharpened_reference(&x, &center, temperature);
    }
    let (xs, c) = (View::of(&x)?, View::of(&center)?);
    let (xs, c): (&[f32], &[f32]) = (&xs, &c);
    let inverse = (1. / temperature) as f32;
    let mut p = vec![0f32; rows * k];
    let entropies: Vec<f64> = p
        .par_chunks_exact_mut(k)
        .zip(xs.par_chunks_exact(k))
        .map(|(p, x)| {
            wide!(p.iter_mut().zip(x.iter().zip(c)).for_each(|(p, (x, c))| *p = x - c));
            sharpen(p, inverse)
        })
        .collect();
    let entropy = entropies.iter().sum::<f64>() / rows as f64;
    Ok((Tensor::from_vec(p, (rows, k), x.device())?, Tensor::new(entropy, x.device())?))
}

/// [`sharpened`] from candle's own ops.
pub fn sharpened_reference(x: &Tensor, center: &Tensor, temperature: f64) -> Result<(Tensor, Tensor)> {
    let x = to_full(x)?;
    let p = candle_nn::ops::softmax(&(x.broadcast_sub(&to_full(center)?)? / temperature)?, D::Minus1)?;
    let plogp = (&p * (&p + 1e-12)?.log()?)?;
    Ok((p, plogp.sum(1)?.mean_all()?.neg()?))
}

/// `x = softmax(x * inverse)` in place; returns its entropy.
pub(super) fn sharpen(x: &mut [f32], inverse: f32) -> f64 {
    wide!({
        let top = kernel::max(x);
        let (mut total, mut weighted) = (0f64, 0f64);
        // In blocks: a sum of 65,536 terms keeps its digits.
        for block in x.chunks_mut(4096) {
            let mut weights = [0f32; 16];
            let mut chunks = block.chunks_exact_mut(16);
            for x in &mut chunks {
                for i in 0..16 {
                    let z = (x[i] - top) * inverse;
                    x[i] = kernel::exp(z);
                    weights[i] += x[i] * z;
                }
            }
            for x in chunks.into_remainder() {
                let z = (*x - top) * inverse;
                *x = kernel::exp(z);
                weights[0] += *x * z;
            }
            weighted += f64::from(weights.iter().sum::<f32>());
            total += f64::from(kernel::sum(block));
        }
        let scale = (1. / total) as f32;
        x.iter_mut().for_each(|x| *x *= scale);
        total.ln() - weighted / total
    })
}

/// Loss of one row, and `d = weight * d loss / d s`.
pub(super) fn row(s: &[f32], q: &[f32], weight: f32, inverse: f32, d: &mut [f32]) -> f64 {
    wide!({
        let top = kernel::max(s);
        let (mut total, mut mass, mut match_) = (0f64, 0f64, 0f64);
        for ((s, q), d) in s.chunks(4096).zip(q.chunks(4096)).zip(d.chunks_mut(4096)) {
            d.iter_mut().zip(s).for_each(|(d, s)| *d = kernel::exp((s - top) * inverse));
            total += f64::from(kernel::sum(d));
            // Relative to the row's maximum, so that large common offsets do not cancel.
            for (s, q) in s.chunks(256).zip(q.chunks(256)) {
                let mut lanes = [0f32; 16];
                let (xs, qs) = (s.chunks_exact(16), q.chunks_exact(16));
                let rest: f32 = xs.remainder().iter().zip(qs.remainder()).map(|(x, q)| (x - top) * q).sum();
                for (x, q) in xs.zip(qs) {
                    for i in 0..16 {
                        lanes[i] += (x[i] - top) * q[i];
                    }
                }
                match_ += f64::from(lanes.iter().sum::<f32>() + rest);
                mass += f64::from(kernel::sum(q));
            }
        }
        let (a, b) = ((f64::from(weight * inverse) * mass / total) as f32, weight * inverse);
        d.iter_mut().zip(q).for_each(|(d, q)| *d = a * *d - b * q);
        mass * total.ln() - match_ * f64::from(inverse)
    })
}

/// The weighted loss of all rows, `per_task` of them in one task. `target(q, r, sum)` makes the target of
/// row `r` and may add to `sum`, which has `collected` elements; the sums of all tasks come back in order.
fn rows_loss(
    student: &Tensor,
    weights: &[f64],
    temperature: f64,
    (per_task, collected): (usize, usize),
    target: impl Fn(&mut [f32], usize, &mut [f32]) + Sync,
) -> Result<(Tensor, Vec<Vec<f32>>)> {
    let student = student.contiguous()?;
    let (rows, k) = student.dims2()?;
    let inverse = (1. / temperature) as f32;
    let mut gradient = Buffer::stale(rows * k);
    let (losses, sums): (Vec<f64>, Vec<Vec<f32>>) = {
        let s = View::of(&student)?;
        let s: &[f32] = &s;
        gradient
            .par_chunks_mut(per_task * k)
            .enumerate()
            .map(|(task, d)| {
                let (mut q, mut sum, mut loss) = (Buffer::stale(k), vec![0f32; collected], 0.);
                for (i, d) in d.chunks_exact_mut(k).enumerate() {
                    let r = task * per_task + i;
                    target(&mut q, r, &mut sum);
                    loss += weights[r] * row(&s[r * k..][..k], &q, weights[r] as f32, inverse, d);
                }
                (loss, sum)
            })
            .collect()
    };
    let op = Loss { value: losses.iter().sum::<f64>() as f32, gradient: Mutex::new(Some(gradient)) };
    let loss = if student.track_op() { student.apply_op1(op) } else { student.apply_op1_no_bwd(&op) };
    Ok((loss?, sums))
}

/// A loss that is known, with its gradient.
struct Loss {
    value: f32,
    /// Gradient, taken by the backward pass.
    gradient: Mutex<Option<Buffer>>,
}

impl CustomOp1 for Loss {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![self.value]), Shape::from(())))
    }

    fn bwd(&self, s: &Tensor, _: &Tensor, dloss: &Tensor) -> Result<Option<Tensor>> {
        let Some(gradient) = self.gradient.lock().ok().and_then(|mut slot| slot.take()) else {
            bail!("the backward pass of a loss can run only once per forward pass")
        };
        let mut gradient = gradient.into_vec();
        let scale = dloss.to_scalar::<f32>()?;
        if scale != 1. {
            gradient.par_chunks_mut(1 << 15).for_each(|part| part.iter_mut().for_each(|d| *d *= scale));
        }
        Tensor::from_vec(gradient, s.shape(), s.device()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::normal;
    use crate::testing::{agrees, finite_differences};
    use candle_core::{DType, Device};

    const TEMPERATURES: Temperatures = Temperatures { student: 0.1, teacher: 0.04 };

    fn uneven(rows: usize) -> Vec<f64> {
        (0..rows).map(|r| 0.01 + (r % 3) as f64 / 70.).collect()
    }

    #[test]
    fn matched_rows_equal_the_reference() -> Result<()> {
        for (rows, k) in [(7, 300), (150, 5000), (64, 16), (1, 1)] {
            let (t, c) = ((normal(5, (rows, k))? * 0.3)?, (normal(6, (1, k))? * 0.1)?);
            let (t64, c64) = (t.to_dtype(DType::F64)?, c.to_dtype(DType::F64)?);
            let w = uneven(rows);
            agrees(
                &[&[rows, k]],
                |x| Ok(matched_cross_entropy(&x[0], &t, &c, &w, TEMPERATURES)?.0),
                |x| Ok(matched_cross_entropy_reference(&x[0], &t64, &c64, &w, TEMPERATURES)?.0),
            )?;
            let x = normal(7, (rows, k))?;
            let mean = matched_cross_entropy(&x, &t, &c, &w, TEMPERATURES)?.1.to_dtype(DType::F64)?;
            assert!((mean - t64.mean_keepdim(0)?)?.abs()?.max_all()?.to_scalar::<f64>()? < 1e-6);
        }
        Ok(())
    }

    #[test]
    fn paired_rows_equal_the_reference() -> Result<()> {
        let pairs = vec![vec![1], vec![0], vec![0, 1], vec![], vec![2, 0, 1]];
        for k in [300, 9000] {
            let (p, entropy) =
                sharpened(&(normal(5, (3, k))? * 0.3)?, &Tensor::zeros((1, k), DType::F32, &Device::Cpu)?, 0.04)?;
            let entropy = entropy.to_scalar::<f64>()?;
            assert!(entropy > 0. && entropy < (k as f64).ln());
            let p64 = p.to_dtype(DType::F64)?;
            agrees(
                &[&[5, k]],
                |x| paired_cross_entropy(&x[0], &p, &pairs, &uneven(5), 0.1),
                |x| paired_cross_entropy_reference(&x[0], &p64, &pairs, &uneven(5), 0.1),
            )?;
        }
        Ok(())
    }

    #[test]
    fn gradient_is_the_slope() -> Result<()> {
        let p = Tensor::new(&[[0.2f32, 0.5, 0.3], [1.0, 0.9, 0.1]], &Device::Cpu)?;
        finite_differences(&[2, 3], |x| {
            paired_cross_entropy(x, &p, &[vec![0, 1], vec![1]], &[0.5, 2.], 0.5)?.reshape(1)
        })
    }

    #[test]
    fn a_scaled_loss_has_a_scaled_gradient() -> Result<()> {
        let (t, c) = (normal(5, (3, 40))?, Tensor::zeros((1, 40), DType::F32, &Device::Cpu)?);
        let c64 = c.to_dtype(DType::F64)?;
        agrees(
            &[&[3, 40]],
            |x| matched_cross_entropy(&x[0], &t, &c, &[0.3; 3], TEMPERATURES)?.0 * -2.5,
            |x| {
                matched_cross_entropy_reference(&x[0], &t.to_dtype(DType::F64)?, &c64, &[0.3; 3], TEMPERATURES)?.0
                    * -2.5
            },
        )
    }

    #[test]
    fn sharpened_equals_the_reference() -> Result<()> {
        let (x, c) = ((normal(1, (70, 5000))? * 0.3)?, (normal(2, (1, 5000))? * 0.1)?);
        let (p, entropy) = sharpened(&x, &c, 0.04)?;
        let (want, want_entropy) = sharpened_reference(&x.to_dtype(DType::F64)?, &c.to_dtype(DType::F64)?, 0.04)?;
        let error = (p.to_dtype(DType::F64)? - want)?.abs()?.max_all()?.to_scalar::<f64>()?;
        let (entropy, want_entropy) = (entropy.to_scalar::<f64>()?, want_entropy.to_scalar::<f64>()?);
        assert!(error < 1e-5 && (entropy - want_entropy).abs() < 1e-5, "{error} {entropy} {want_entropy}");
        assert!(sharpened(&x, &x, 0.04).is_err());
        Ok(())
    }

    #[test]
    fn large_logits_stay_finite() -> Result<()> {
        let s = Tensor::new(&[[1e4f32, -1e4, 0.0]], &Device::Cpu)?;
        let q = Tensor::new(&[[1f32, 0.0, 0.0]], &Device::Cpu)?;
        assert_eq!(paired_cross_entropy(&s, &q, &[vec![0]], &[1.], 0.1)?.to_scalar::<f32>()?, 0.0);
        Ok(())
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() -> Result<()> {
        let (s, t, c) = (normal(1, (300, 700))?, normal(2, (300, 700))?, (normal(3, (1, 700))? * 0.1)?);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| matched_cross_entropy(&s, &t, &c, &[0.1; 300], TEMPERATURES))
        };
        let ((a, m), (b, n)) = (on(1)?, on(3)?);
        assert_eq!(a.to_scalar::<f32>()?, b.to_scalar::<f32>()?);
        assert_eq!(m.to_vec2::<f32>()?, n.to_vec2::<f32>()?);
        Ok(())
    }
}
