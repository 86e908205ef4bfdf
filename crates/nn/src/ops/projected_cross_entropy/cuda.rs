//! The projected cross-entropy on CUDA, some thousand rows at a time: their logits, losses and gradients, and what
//! these add to the gradients of rows and prototypes. The backward pass is left to multiply with the gradient of
//! the loss.

use super::projected::Projected;
use crate::cuda::{add_matmul, matmul, matmul_into, record, scale, single, t, uninitialised};
use crate::ops::cross_entropy::cuda::{compare, on_device, weighted_sum};
use crate::ops::prototypes::Scaled;
use crate::ops::{Temperatures, sum_rows};
use crate::precision::compute_dtype;
use candle_core::{DType, Result, Tensor};

/// Logits of each network that are made at a time: a constant, so that sums are grouped alike everywhere.
/// Tests make fewer, several times.
const LOGITS: usize = if cfg!(test) { 1 << 16 } else { 1 << 24 };

/// Fewest rows at a time: fewer would leave most of the device idle.
const FEWEST_ROWS: usize = 128;

/// Rows, and prototypes at their lengths, in the type that products are computed in.
struct Side {
    rows: Tensor,
    prototypes: Scaled,
}

impl Side {
    fn of(projected: &Projected, dtype: DType) -> Result<Self> {
        let rows = projected.rows.detach().to_dtype(dtype)?.contiguous()?;
        Ok(Self { rows, prototypes: Scaled::of(&projected.weight_v, &projected.weight_g, dtype)? })
    }

    fn logits(&self, first: usize, len: usize) -> Result<Tensor> {
        matmul(&self.rows.narrow(0, first, len)?, t(&self.prototypes.w), DType::F32)
    }

    /// Mean of the logits of all rows, which are linear.
    fn mean(&self) -> Result<Tensor> {
        let mean = (sum_rows(&self.rows)? / self.rows.dim(0)? as f64)?;
        matmul(&mean, t(&self.prototypes.w.to_dtype(DType::F32)?), DType::F32)
    }
}

pub(super) fn projected(
    student: &Projected,
    teacher: &Projected,
    center: &Tensor,
    weights: &[f64],
    temperatures: Temperatures,
) -> Result<(Tensor, Tensor)> {
    let (dtype, device) = (compute_dtype(&student.rows), student.rows.device());
    let (x, center) = (&student.rows, single(&center.detach())?);
    let ((rows, dim), count) = (x.dims2()?, student.weight_v.dim(0)?);
    let (student, teacher) = (Side::of(student, dtype)?, Side::of(teacher, dtype)?);
    let unit = unit(weights, temperatures.student);
    let weights = on_device(weights, unit, device)?;
    let losses = uninitialised(rows, DType::F32, device)?;
    let dx = x.track_op().then(|| uninitialised((rows, dim), DType::F32, device)).transpose()?;
    let dw = student.prototypes.trained().then(|| Tensor::zeros((count, dim), DType::F32, device)).transpose()?;
    let gradient = (dx.is_some() || dw.is_some()).then_some(dtype);
    let chunk = (LOGITS / count).max(FEWEST_ROWS);
    for first in (0..rows).step_by(chunk) {
        let len = chunk.min(rows - first);
        let logits = (&student.logits(first, len)?, &teacher.logits(first, len)?);
        let of_rows = (&weights.narrow(0, first, len)?, &losses.narrow(0, first, len)?);
        let Some(d) = compare(logits, &center, of_rows, temperatures, gradient)? else { continue };
        if let Some(dx) = &dx {
            matmul_into(&d, &student.prototypes.w, &dx.narrow(0, first, len)?)?;
        }
        if let Some(dw) = &dw {
            add_matmul(t(&d), &student.rows.narrow(0, first, len)?, dw)?;
        }
    }
    let loss = weighted_sum(&losses, Some(&weights), unit as f32)?;
    let (back_to, parameter) = (x.dtype(), student.prototypes.anchor().clone());
    let prototypes = student.prototypes;
    let loss = record(x, &parameter, loss, move |dloss| {
        if let Some(dw) = dw {
            scale(&dw, dloss, unit as f32)?;
            prototypes.deposit(dw)?;
        }
        let Some(dx) = dx else { return Ok(None) };
        scale(&dx, dloss, unit as f32)?;
        Ok(Some(dx.to_dtype(back_to)?))
    })?;
    Ok((loss, teacher.mean()?))
}

/// Unit of the weights, a power of two: with weights in this unit no element of the logits' gradient reaches 2^13,
/// so that half precision keeps as much of the gradient as it can.
fn unit(weights: &[f64], temperature: f64) -> f64 {
    let largest = weights.iter().fold(0f64, |largest, w| largest.max(w.abs())) / temperature;
    let unit = (largest.log2().floor() - 12.).exp2();
    if (unit as f32).is_normal() { unit } else { 1. }
}

#[cfg(test)]
mod tests {
    use super::unit;
    use crate::Precision::{Bf16, F16, F32};
    use crate::ops::{
        Projected, Temperatures, normalize_reference, projected_cross_entropy, projected_cross_entropy_reference,
    };
    use crate::random::normal;
    use crate::testing::{Case, cuda, equal_on_cuda};
    use candle_core::{DType, Result, Tensor};
    use candle_nn::{Init, VarBuilder, init};

    const TEMPERATURES: Temperatures = Temperatures { student: 0.1, teacher: 0.04 };

    /// What multiplies the loss before the backward pass.
    const LOSS_SCALE: f64 = 65536.;

    type Op = fn(&Projected, &Projected, &Tensor, &[f64], Temperatures) -> Result<(Tensor, Tensor)>;

    fn teacher(rows: usize, dim: usize, count: usize, like: &Tensor) -> Result<(Projected, Tensor)> {
        let to = |t: Tensor| t.to_dtype(like.dtype())?.to_device(like.device());
        let projected = Projected {
            rows: to(normalize_reference(&normal(5, (rows, dim))?)?)?,
            weight_v: to(normal(6, (count, dim))?)?,
            weight_g: to(Tensor::ones((count, 1), DType::F32, &candle_core::Device::Cpu)?)?,
        };
        Ok((projected, to((normal(7, (1, count))? * 0.1)?)?))
    }

    /// Rows and prototypes rounded to `dtype`, whose gradients are those of what is not rounded.
    fn rounded(projected: &Projected, dtype: DType) -> Result<Projected> {
        let round = |t: &Tensor| t + (t.to_dtype(dtype)?.to_dtype(t.dtype())? - t)?.detach();
        let w = crate::ops::weight_norm_reference(&projected.weight_v, &projected.weight_g)?;
        let w = round(&w)?;
        let weight_g = w.sqr()?.sum_keepdim(1)?.sqrt()?;
        Ok(Projected { rows: round(&projected.rows)?, weight_v: w, weight_g })
    }

    #[test]
    fn equals_reference_in_value_mean_and_all_gradients() -> Result<()> {
        for (rows, dim, count) in [(3, 17, 60), (300, 32, 500), (200, 8, 1001), (130, 8, 4096), (5, 4, 9000)] {
            let weights: Vec<f64> = (0..rows).map(|r| 1e-5 + (r % 3) as f64 * 2e-5).collect();
            for frozen in [[false, false], [false, true], [true, true]] {
                let build = |vb: VarBuilder| {
                    let v = vb.get_with_hints((count, dim), "v", Init::Randn { mean: 0., stdev: 1. })?;
                    let g = vb.get_with_hints((count, 1), "g", init::ONE)?;
                    let freeze = |t: Tensor, frozen: bool| if frozen { t.detach() } else { t };
                    Ok((freeze(v, frozen[0]), freeze(g, frozen[1])))
                };
                let student = |x: &Tensor, (v, g): &(Tensor, Tensor)| -> Result<Projected> {
                    Ok(Projected { rows: normalize_reference(x)?, weight_v: v.clone(), weight_g: g.clone() })
                };
                let joined =
                    |(loss, mean): (Tensor, Tensor)| Tensor::cat(&[&(loss * LOSS_SCALE)?.reshape((1, 1))?, &mean], 1);
                // The reference rounds logits and small gradients to half precision.
                let [fused, plain]: [Op; 2] = [projected_cross_entropy, projected_cross_entropy_reference];
                for (precision, tolerance, op) in [
                    (F32, 1e-5, fused),
                    (F32, 1e-5, plain),
                    (Bf16, 2e-2, fused),
                    (F16, 3e-3, fused),
                    (Bf16, 0.1, plain),
                ] {
                    let case = Case {
                        inputs: &[&[rows, dim]],
                        build,
                        fused: |x: &[Tensor], p: &(Tensor, Tensor)| {
                            let (t, c) = teacher(rows, dim, count, &x[0])?;
                            joined(op(&student(&x[0], p)?, &t, &c, &weights, TEMPERATURES)?)
                        },
                        reference: |x: &[Tensor], p: &(Tensor, Tensor)| {
                            let (t, c) = teacher(rows, dim, count, &x[0])?;
                            let (s, t) = (student(&x[0], p)?, rounded(&t, precision.dtype())?);
                            let s = rounded(&s, precision.dtype())?;
                            joined(projected_cross_entropy_reference(&s, &t, &c, &weights, TEMPERATURES)?)
                        },
                    };
                    equal_on_cuda(precision, tolerance, case)?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_not_a_number_is_seen() -> Result<()> {
        let Some(device) = cuda() else { return Ok(()) };
        let (t, c) = teacher(3, 4, 60, &Tensor::zeros(1, DType::F32, &device)?)?;
        let broken = Projected { rows: (&t.rows / 0.)?.broadcast_mul(&t.rows.zeros_like()?)?, ..t.clone() };
        for (s, t) in [(&broken, &t), (&t, &broken)] {
            let loss = projected_cross_entropy(s, t, &c, &[1e-5; 3], TEMPERATURES)?.0;
            assert!(loss.to_scalar::<f32>()?.is_nan());
        }
        Ok(())
    }

    #[test]
    fn gradients_fit_half_precision() {
        for (weights, temperature) in [(vec![1e-5, 3e-6], 0.1), (vec![0.7], 1.), (vec![8.], 0.04)] {
            let unit = unit(&weights, temperature);
            let largest = weights[0] / temperature / unit;
            assert!((4096. ..8192.).contains(&largest) && unit.log2().fract() == 0., "{unit} {largest}");
        }
        assert_eq!([unit(&[0., 0.], 0.1), unit(&[f64::INFINITY], 0.1)], [1., 1.]);
    }
}
