//! The teacher's side of both objectives, outside of any graph: `p_r = softmax((x_r - c) / T)`, and
//! the mean of the rows that moves the centre `c`.

use super::{cpu, math};
use candle_core::{D, Result, Tensor, bail};
use rayon::prelude::*;

/// `x [R, K]`, `center [1, K]`, temperature -> probabilities `[R, K]`. No gradient.
pub fn centered_softmax(x: &Tensor, center: &Tensor, temperature: f64) -> Result<Tensor> {
    let (rows, k) = x.dims2()?;
    if center.dims() != [1, k] {
        bail!("rows of {k} logits need a centre [1, {k}], not {:?}", center.dims())
    }
    let (x, center) = (x.detach().contiguous()?, center.detach().contiguous()?);
    if !cpu::fusible(&x) || k == 0 {
        return centered_softmax_reference(&x, &center, temperature);
    }
    let inverse = (1.0 / temperature) as f32;
    let mut p = vec![0f32; rows * k];
    cpu::with(&x, |x| {
        cpu::with(&center, |c| {
            p.par_chunks_exact_mut(k).zip(x.par_chunks_exact(k)).for_each(|(p, x)| {
                cpu::wide(|| {
                    p.iter_mut().zip(x.iter().zip(c)).for_each(|(p, (x, c))| *p = x - c);
                    let top = cpu::max(p);
                    p.iter_mut().for_each(|p| *p = math::exp((*p - top) * inverse));
                    // In blocks: a sum of 65,536 terms keeps its digits.
                    let total: f64 = p.chunks(4096).map(|block| f64::from(cpu::sum(block))).sum();
                    let scale = (1.0 / total) as f32;
                    p.iter_mut().for_each(|p| *p *= scale);
                });
            });
            Ok(())
        })
    })?;
    Tensor::from_vec(p, (rows, k), x.device())
}

/// The same from candle's own ops.
pub fn centered_softmax_reference(x: &Tensor, center: &Tensor, temperature: f64) -> Result<Tensor> {
    candle_nn::ops::softmax(&(x.broadcast_sub(center)? / temperature)?, D::Minus1)
}

/// Mean of the rows, `[R, K]` -> `[1, K]`. No gradient.
pub fn row_mean(x: &Tensor) -> Result<Tensor> {
    let (rows, k) = x.dims2()?;
    let x = x.detach().contiguous()?;
    if !cpu::fusible(&x) || rows * k == 0 {
        return x.mean_keepdim(0);
    }
    let mut mean = cpu::with(&x, |x| Ok(cpu::column_sums(x, k)))?;
    mean.iter_mut().for_each(|m| *m /= rows as f32);
    Tensor::from_vec(mean, (1, k), x.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::normal;
    use candle_core::DType;

    #[test]
    fn equal_to_plain_ops_in_f64() -> Result<()> {
        let x = (normal(1, (70, 5000))? * 3.)?;
        let c = normal(2, (1, 5000))?;
        let (x64, c64) = (x.to_dtype(DType::F64)?, c.to_dtype(DType::F64)?);
        let worst = |a: Tensor, b: Tensor| (a.to_dtype(DType::F64)? - b)?.abs()?.max_all()?.to_scalar::<f64>();
        // 1e-5: (x - c) / T of about 300 is rounded by 2e-5 before its exponential
        assert!(worst(centered_softmax(&x, &c, 0.04)?, centered_softmax_reference(&x64, &c64, 0.04)?)? < 1e-5);
        assert!(worst(row_mean(&x)?, x64.mean_keepdim(0)?)? < 1e-6);
        assert!(centered_softmax(&x, &x, 0.04).is_err());
        Ok(())
    }
}
