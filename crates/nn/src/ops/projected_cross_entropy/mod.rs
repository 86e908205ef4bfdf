//! The patch objective from the rows before the prototypes: student and teacher logits are made,
//! compared and forgotten a few rows at a time, so that they stay in cache and only their gradient is
//! written to memory. The maths is that of [`prototypes`](super::prototypes) and
//! [`matched_cross_entropy`](super::matched_cross_entropy).

#[cfg(feature = "cuda")]
mod cuda;
mod projected;

use super::cross_entropy::{Temperatures, matched_cross_entropy_reference, row, sharpen};
use super::prototypes::{self, deposit_gradients, scaled, scales};
use crate::kernel::{self, Buffer, Mat, View, fusible, gemm};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
pub use projected::Projected;
use rayon::prelude::*;
use selfpatch_simd::wide;
use std::sync::Mutex;

/// Rows of one task: a constant, so that sums are grouped alike on any number of threads.
const ROWS: usize = 128;

/// [`matched_cross_entropy`](super::matched_cross_entropy) of the logits of both networks: the weighted
/// sum of the rows' losses (a scalar) and the mean of the teacher's logits, `[1, K]`.
pub fn projected_cross_entropy(
    student: &Projected,
    teacher: &Projected,
    center: &Tensor,
    weights: &[f64],
    temperatures: Temperatures,
) -> Result<(Tensor, Tensor)> {
    let (rows, count) = (student.rows.dim(0)?, student.weight_v.dim(0)?);
    if teacher.rows.dim(0)? != rows
        || teacher.weight_v.dim(0)? != count
        || center.dims() != [1, count]
        || weights.len() != rows
    {
        bail!(
            "{rows} student rows and {count} prototypes do not fit {:?}, {:?}, centre {:?} and {} weights",
            teacher.rows.dims(),
            teacher.weight_v.dims(),
            center.dims(),
            weights.len()
        )
    }
    for side in [student, teacher] {
        if side.weight_v.dim(1)? != side.rows.dim(1)? || side.weight_g.dims() != [count, 1] {
            bail!("prototypes {:?} do not fit rows {:?}", side.weight_v.dims(), side.rows.dims())
        }
    }
    if rows * count * student.rows.dim(1)? * teacher.rows.dim(1)? == 0 {
        return projected_cross_entropy_reference(student, teacher, center, weights, temperatures);
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::fusible(&student.rows) {
        return cuda::projected(student, teacher, center, weights, temperatures);
    }
    if !fusible(&student.rows) {
        return projected_cross_entropy_reference(student, teacher, center, weights, temperatures);
    }
    let detached = |p: &Projected| -> Result<[Tensor; 2]> {
        Ok([p.rows.detach().contiguous()?, p.weight_v.detach().contiguous()?])
    };
    let ([s_rows, s_v], [t_rows, t_v]) = (detached(student)?, detached(teacher)?);
    let center = center.detach().contiguous()?;
    let (loss, mean, saved) = {
        let (s_rows, s_v, t_rows, t_v) = (View::of(&s_rows)?, View::of(&s_v)?, View::of(&t_rows)?, View::of(&t_v)?);
        let (s_rows, t_rows): (&[f32], &[f32]) = (&s_rows, &t_rows);
        let (n, t_n) = (s_rows.len() / rows, t_rows.len() / rows);
        let (scale, inverse) = scales(&s_v, &student.weight_g, n)?;
        let w = scaled(&s_v, &scale, n);
        let s_w = kernel::transposed(&w, n);
        let t_w = kernel::transposed(&scaled(&t_v, &scales(&t_v, &teacher.weight_g, t_n)?.0, t_n), t_n);
        let c = View::of(&center)?;
        let (c, s_w, t_w): (&[f32], &[f32], &[f32]) = (&c, &s_w, &t_w);
        let (sharp, soft) = ((1. / temperatures.teacher) as f32, (1. / temperatures.student) as f32);
        let mut gradient = Buffer::stale(rows * count);
        let parts: Vec<(f64, Vec<f32>)> = gradient
            .par_chunks_mut(ROWS * count)
            .enumerate()
            .map(|(task, d)| {
                let (first, len) = (task * ROWS, d.len() / count);
                let (mut s, mut t) = (Buffer::stale(d.len()), Buffer::stale(d.len()));
                let x = Mat::dense(&t_rows[first * t_n..][..len * t_n], t_n);
                gemm((len, count, t_n), &mut t, count, false, 1., x, Mat::dense(t_w, count));
                let x = Mat::dense(&s_rows[first * n..][..len * n], n);
                gemm((len, count, n), &mut s, count, false, 1., x, Mat::dense(s_w, count));
                let (mut loss, mut sum) = (0., vec![0f32; count]);
                let all = t.chunks_exact_mut(count).zip(s.chunks_exact(count)).zip(d.chunks_exact_mut(count));
                for (((t, s), d), weight) in all.zip(&weights[first..]) {
                    wide!(t.iter_mut().zip(&mut sum).zip(c).for_each(|((t, sum), c)| {
                        *sum += *t;
                        *t -= c;
                    }));
                    sharpen(t, sharp);
                    loss += weight * row(s, t, *weight as f32, soft, d);
                }
                (loss, sum)
            })
            .collect();
        let (losses, sums): (Vec<f64>, Vec<Vec<f32>>) = parts.into_iter().unzip();
        let mut mean = kernel::add_up(sums, count);
        mean.iter_mut().for_each(|m| *m /= rows as f32);
        (losses.iter().sum::<f64>(), mean, SavedRows { gradient, w, scale, inverse })
    };
    let mean = Tensor::from_vec(mean, (1, count), student.rows.device())?;
    let (x, v) = (student.rows.contiguous()?, student.weight_v.contiguous()?);
    let tracked = x.track_op() || v.track_op();
    if !tracked && student.weight_g.track_op() {
        return projected_cross_entropy_reference(student, teacher, &center, weights, temperatures);
    }
    let op = Loss { value: loss as f32, gain: student.weight_g.clone(), saved: Mutex::new(tracked.then_some(saved)) };
    let loss = if tracked { x.apply_op2(&v, op)? } else { x.apply_op2_no_bwd(&v, &op)? };
    Ok((loss, mean))
}

/// Projection and cross-entropy from candle's own ops.
pub fn projected_cross_entropy_reference(
    student: &Projected,
    teacher: &Projected,
    center: &Tensor,
    weights: &[f64],
    temperatures: Temperatures,
) -> Result<(Tensor, Tensor)> {
    let logits = |p: &Projected| prototypes::reference(&p.rows, &p.weight_v, &p.weight_g);
    matched_cross_entropy_reference(&logits(student)?, &logits(teacher)?.detach(), center, weights, temperatures)
}

/// What the backward pass needs.
struct SavedRows {
    /// Gradient of the student's logits, `[R, K]`.
    gradient: Buffer,
    /// The student's prototypes at their lengths, `[K, D]`.
    w: Buffer,
    scale: Vec<f32>,
    inverse: Vec<f32>,
}

/// A loss that is known.
struct Loss {
    value: f32,
    gain: Tensor,
    /// Saved rows, taken by the backward pass.
    saved: Mutex<Option<SavedRows>>,
}

impl CustomOp2 for Loss {
    fn name(&self) -> &'static str {
        "projected-cross-entropy"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![self.value]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, v: &Tensor, _: &Tensor, dloss: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(saved) = self.saved.lock().ok().and_then(|mut slot| slot.take()) else {
            bail!("the backward pass of a loss can run only once per forward pass")
        };
        let ((rows, n), count) = (x.dims2()?, saved.scale.len());
        let factor = dloss.to_scalar::<f32>()?;
        let dx = x.track_op().then(|| {
            let mut dx = vec![0f32; rows * n];
            let dy = Mat::dense(&saved.gradient, count);
            kernel::matmul_rows((rows, n, count), &mut dx, dy, Mat::dense(&saved.w, n), |_, dx| {
                wide!(dx.iter_mut().for_each(|d| *d *= factor));
            });
            Tensor::from_vec(dx, (rows, n), x.device())
        });
        let (xs, vs) = (View::of(x)?, View::of(v)?);
        deposit_gradients((v, &self.gain), (&vs, &xs, &saved.gradient), (&saved.scale, &saved.inverse), factor)?;
        Ok((dx.transpose()?, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::normal;
    use crate::testing::{Case, equal_with_parameters};
    use candle_core::{DType, Device};
    use candle_nn::{Init, VarBuilder, init};

    #[test]
    fn equals_reference_in_value_mean_and_all_gradients() -> Result<()> {
        let temperatures = Temperatures { student: 0.1, teacher: 0.04 };
        for (rows, dim, count) in [(3, 17, 60), (150, 17, 9), (300, 32, 500), (1, 4, 1)] {
            let weights: Vec<f64> = (0..rows).map(|r| 0.01 + (r % 3) as f64 / 70.).collect();
            let teacher = |dtype: DType| -> Result<Projected> {
                Ok(Projected {
                    rows: crate::ops::normalize_reference(&normal(5, (rows, dim))?.to_dtype(dtype)?)?,
                    weight_v: normal(6, (count, dim))?.to_dtype(dtype)?,
                    weight_g: Tensor::ones((count, 1), dtype, &Device::Cpu)?,
                })
            };
            let center = |dtype: DType| (normal(7, (1, count))? * 0.1)?.to_dtype(dtype);
            let build = |vb: VarBuilder| {
                Ok((
                    vb.get_with_hints((count, dim), "v", Init::Randn { mean: 0., stdev: 1. })?,
                    vb.get_with_hints((count, 1), "g", init::ONE)?,
                ))
            };
            // One tensor with the loss, which is differentiated, and the mean.
            let joined = |(loss, mean): (Tensor, Tensor)| Tensor::cat(&[&(loss * -2.5)?.reshape((1, 1))?, &mean], 1);
            let student = |x: &Tensor, (v, g): &(Tensor, Tensor)| -> Result<Projected> {
                let rows = crate::ops::normalize_reference(x)?;
                Ok(Projected { rows, weight_v: v.clone(), weight_g: g.clone() })
            };
            equal_with_parameters(Case {
                inputs: &[&[rows, dim]],
                build,
                fused: |x: &[Tensor], p: &(Tensor, Tensor)| {
                    let (t, c) = (teacher(DType::F32)?, center(DType::F32)?);
                    joined(projected_cross_entropy(&student(&x[0], p)?, &t, &c, &weights, temperatures)?)
                },
                reference: |x: &[Tensor], p: &(Tensor, Tensor)| {
                    let (t, c) = (teacher(DType::F64)?, center(DType::F64)?);
                    joined(projected_cross_entropy_reference(&student(&x[0], p)?, &t, &c, &weights, temperatures)?)
                },
            })?;
        }
        Ok(())
    }
}
