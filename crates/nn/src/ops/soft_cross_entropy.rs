//! Cross-entropy of tempered logits against soft targets:
//! `loss_r = -sum_j q_rj log_softmax(s_r / T)_j`, gradient `(mass_r softmax(s_r / T) - q_r) / T`.
//!
//! The rows of `q` need not sum to 1: a sum of several targets gives the sum of their losses, so
//! one pass serves all teacher views that a student view is matched with.

use super::{cpu, math};
use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::Mutex;

/// `logits [R, K]`, `targets [R, K]` (constant, no gradient), temperature -> `[R]`.
pub fn soft_cross_entropy(logits: &Tensor, targets: &Tensor, temperature: f64) -> Result<Tensor> {
    if logits.dims() != targets.dims() || logits.rank() != 2 {
        bail!("logits {:?} and targets {:?} must be equal [R, K]", logits.dims(), targets.dims())
    }
    if !cpu::fusible(logits) {
        return reference(logits, targets, temperature);
    }
    let op = SoftCrossEntropy { inverse: (1.0 / temperature) as f32, rows: Mutex::new(Vec::new()) };
    logits.contiguous()?.apply_op2(&targets.detach().contiguous()?, op)
}

/// The same from candle's own ops.
pub fn reference(logits: &Tensor, targets: &Tensor, temperature: f64) -> Result<Tensor> {
    let log_probs = candle_nn::ops::log_softmax(&(logits / temperature)?, D::Minus1)?;
    (targets.detach().to_dtype(logits.dtype())? * log_probs)?.sum(D::Minus1)?.neg()
}

struct SoftCrossEntropy {
    /// 1 / temperature.
    inverse: f32,
    /// What the backward pass needs of each row.
    rows: Mutex<Vec<Row>>,
}

/// The log-sum-exp of a row is `top / T + log_total`; kept apart because their sum would round away
/// digits of large logits.
#[derive(Clone, Copy)]
struct Row {
    top: f32,
    log_total: f32,
    /// Sum of the target.
    mass: f32,
}

/// Loss of one row, and what its backward pass needs.
#[inline(always)]
fn row_forward(s: &[f32], q: &[f32], inverse: f32) -> (f32, Row) {
    let top = cpu::max(s);
    // exp is summed block by block so that one row of 65,536 classes stays in cache
    let mut total = 0f64;
    for block in s.chunks(4096) {
        let mut lanes = [0f32; 16];
        let chunks = block.chunks_exact(16);
        let rest: f32 = chunks.remainder().iter().map(|x| math::exp((x - top) * inverse)).sum();
        for x in chunks {
            for i in 0..16 {
                lanes[i] += math::exp((x[i] - top) * inverse);
            }
        }
        total += (lanes.iter().sum::<f32>() + rest) as f64;
    }
    // Relative to the row's maximum, so that large common offsets do not cancel.
    let log_total = total.ln();
    let (mut mass, mut match_) = (0f64, 0f64);
    for (s, q) in s.chunks(256).zip(q.chunks(256)) {
        let mut lanes = [0f32; 16];
        let (xs, qs) = (s.chunks_exact(16), q.chunks_exact(16));
        let tail = xs.remainder().iter().zip(qs.remainder());
        let rest: f32 = tail.map(|(x, q)| (x - top) * q).sum();
        for (x, q) in xs.zip(qs) {
            for i in 0..16 {
                lanes[i] += (x[i] - top) * q[i];
            }
        }
        match_ += (lanes.iter().sum::<f32>() + rest) as f64;
        mass += cpu::sum(q) as f64;
    }
    let loss = mass * log_total - match_ * inverse as f64;
    (loss as f32, Row { top, log_total: log_total as f32, mass: mass as f32 })
}

impl CustomOp2 for SoftCrossEntropy {
    fn name(&self) -> &'static str {
        "soft-cross-entropy"
    }

    fn cpu_fwd(&self, s: &CpuStorage, sl: &Layout, q: &CpuStorage, ql: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, classes) = sl.shape().dims2()?;
        let (s, q) = (cpu::slice(s, sl)?, cpu::slice(q, ql)?);
        let inverse = self.inverse;
        let per_row: Vec<(f32, Row)> = s
            .par_chunks_exact(classes.max(1))
            .zip(q.par_chunks_exact(classes.max(1)))
            .map(|(s, q)| cpu::wide(|| row_forward(s, q, inverse)))
            .collect();
        if let Ok(mut kept) = self.rows.lock() {
            *kept = per_row.iter().map(|&(_, row)| row).collect();
        }
        Ok((CpuStorage::F32(per_row.iter().map(|r| r.0).collect()), Shape::from(rows)))
    }

    fn bwd(&self, s: &Tensor, q: &Tensor, _loss: &Tensor, dloss: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let classes = s.dim(1)?.max(1);
        let Ok(rows) = self.rows.lock() else { bail!("the forward pass of the loss failed") };
        let dloss = dloss.contiguous()?;
        let mut ds = vec![0f32; s.elem_count()];
        let inverse = self.inverse;
        cpu::with(s, |s| {
            cpu::with(q, |q| {
                cpu::with(&dloss, |dloss| {
                    ds.par_chunks_exact_mut(classes).enumerate().for_each(|(r, ds)| {
                        let Row { top, log_total, mass } = rows[r];
                        let g = dloss[r] * inverse;
                        let (s, q) = (&s[r * classes..][..classes], &q[r * classes..][..classes]);
                        cpu::wide(|| {
                            for ((ds, &s), &q) in ds.iter_mut().zip(s).zip(q) {
                                *ds = g * (mass * math::exp((s - top) * inverse - log_total) - q);
                            }
                        });
                    });
                    Ok(())
                })
            })
        })?;
        Ok((Some(Tensor::from_vec(ds, s.shape(), s.device())?), None))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{agrees, finite_differences};
    use candle_core::{Device, Result, Tensor};

    #[test]
    fn equals_reference() -> Result<()> {
        let q = candle_nn::ops::softmax(&(crate::random::normal(1, (7, 300))? * 2.)?, 1)?;
        let q = (q * 1.7)?;
        agrees(&[&[7, 300]], |x| super::soft_cross_entropy(&x[0], &q, 0.1), |x| super::reference(&x[0], &q, 0.1))
    }

    #[test]
    fn gradient_is_the_slope() -> Result<()> {
        let q = Tensor::new(&[[0.2f32, 0.5, 0.3], [1.0, 0.9, 0.1]], &Device::Cpu)?;
        finite_differences(&[2, 3], |x| super::soft_cross_entropy(x, &q, 0.5))
    }

    #[test]
    fn large_logits_stay_finite() -> Result<()> {
        let s = Tensor::new(&[[1e4f32, -1e4, 0.0]], &Device::Cpu)?;
        let q = Tensor::new(&[[1f32, 0.0, 0.0]], &Device::Cpu)?;
        assert_eq!(super::soft_cross_entropy(&s, &q, 0.1)?.to_vec1::<f32>()?, [0.0]);
        Ok(())
    }
}
