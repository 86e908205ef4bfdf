//! In-place element-wise updates. On the CPU in f32 each is one parallel pass over its tensors; any
//! other device or dtype takes the plain path, which is also the truth in the tests.

use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

/// Elements handled by one parallel task.
const CHUNK: usize = 64 * 1024;

/// Coefficients of one AdamW step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamW {
    pub lr: f64,
    pub decay: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// 1 - beta^t for both moments.
    pub bias1: f64,
    pub bias2: f64,
}

/// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`; `moments [2, n]` holds `m`, then `v`.
pub(crate) fn moments(moments: &Var, gradient: &Tensor, c: AdamW) -> Result<()> {
    let gradient = gradient.flatten_all()?.contiguous()?;
    if in_place(moments) {
        return moments.inplace_op2(&gradient, &Moments(c));
    }
    let (m, v) = (moments.get(0)?, moments.get(1)?);
    let m = ((m * c.beta1)? + (&gradient * (1. - c.beta1))?)?;
    let v = ((v * c.beta2)? + (gradient.sqr()? * (1. - c.beta2))?)?;
    moments.set(&Tensor::stack(&[m, v], 0)?)
}

/// `p = p (1 - lr decay) - lr m / bias1 / (sqrt(v / bias2) + eps)`.
pub(crate) fn adamw(param: &Var, moments: &Var, c: AdamW) -> Result<()> {
    if in_place(param) {
        return param.inplace_op2(moments, &Apply(c));
    }
    let m = moments.get(0)?.reshape(param.shape())?;
    let v = moments.get(1)?.reshape(param.shape())?;
    let step = (m / ((v / c.bias2)?.sqrt()? + c.eps)?)?;
    param.set(&((param.as_tensor() * (1. - c.lr * c.decay))? - (step * (c.lr / c.bias1))?)?)
}

/// `to = momentum to + (1 - momentum) from`.
pub(crate) fn average(to: &Var, from: &Tensor, momentum: f64) -> Result<()> {
    if in_place(to) {
        return to.inplace_op2(from, &Average(momentum));
    }
    to.set(&((to.as_tensor() * momentum)? + (from.detach() * (1. - momentum))?)?)
}

fn in_place(t: &Var) -> bool {
    t.device().is_cpu() && t.dtype() == DType::F32
}

fn mutable<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&mut data[start..end]),
        _ => bail!("an update in place needs contiguous f32 parameters"),
    }
}

fn shared<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&data[start..end]),
        _ => bail!("an update in place needs contiguous f32 sources"),
    }
}

struct Moments(AdamW);

impl InplaceOp2 for Moments {
    fn name(&self) -> &'static str {
        "adamw-moments"
    }

    fn cpu_fwd(&self, mv: &mut CpuStorage, ml: &Layout, g: &CpuStorage, gl: &Layout) -> Result<()> {
        let (mv, g) = (mutable(mv, ml)?, shared(g, gl)?);
        if mv.len() != 2 * g.len() {
            bail!("moments of {} elements for a gradient of {}", mv.len(), g.len())
        }
        let (b1, b2) = (self.0.beta1 as f32, self.0.beta2 as f32);
        let (c1, c2) = ((1. - self.0.beta1) as f32, (1. - self.0.beta2) as f32);
        let (m, v) = mv.split_at_mut(g.len());
        m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)).zip(g.par_chunks(CHUNK)).for_each(|((m, v), g)| {
            for ((m, v), &g) in m.iter_mut().zip(v).zip(g) {
                *m = b1 * *m + c1 * g;
                *v = b2 * *v + c2 * g * g;
            }
        });
        Ok(())
    }
}

struct Apply(AdamW);

impl InplaceOp2 for Apply {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, p: &mut CpuStorage, pl: &Layout, mv: &CpuStorage, ml: &Layout) -> Result<()> {
        let (p, mv) = (mutable(p, pl)?, shared(mv, ml)?);
        if mv.len() != 2 * p.len() {
            bail!("moments of {} elements for a parameter of {}", mv.len(), p.len())
        }
        let c = self.0;
        let (keep, step, eps) = ((1. - c.lr * c.decay) as f32, (c.lr / c.bias1) as f32, c.eps as f32);
        let inverse = (1. / c.bias2) as f32;
        let (m, v) = mv.split_at(p.len());
        p.par_chunks_mut(CHUNK).zip(m.par_chunks(CHUNK).zip(v.par_chunks(CHUNK))).for_each(|(p, (m, v))| {
            for ((p, &m), &v) in p.iter_mut().zip(m).zip(v) {
                *p = *p * keep - step * (m / ((v * inverse).sqrt() + eps));
            }
        });
        Ok(())
    }
}

struct Average(f64);

impl InplaceOp2 for Average {
    fn name(&self) -> &'static str {
        "average"
    }

    fn cpu_fwd(&self, to: &mut CpuStorage, tl: &Layout, from: &CpuStorage, fl: &Layout) -> Result<()> {
        let (to, from) = (mutable(to, tl)?, shared(from, fl)?);
        if to.len() != from.len() {
            bail!("an average of {} with {} elements", to.len(), from.len())
        }
        let (keep, take) = (self.0 as f32, (1. - self.0) as f32);
        to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| {
            to.iter_mut().zip(from).for_each(|(t, &f)| *t = keep * *t + take * f);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfpatch_nn::random::normal;

    const STEP: AdamW =
        AdamW { lr: 0.01, decay: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, bias1: 0.271, bias2: 0.002_997 };

    fn largest_difference(a: &Var, b: &Var) -> Result<f64> {
        (a.to_dtype(DType::F64)? - b.as_tensor())?.abs()?.max_all()?.to_scalar()
    }

    #[test]
    fn one_pass_equals_plain_path() -> Result<()> {
        let n = CHUNK + 77;
        let (g, p, mv) = (normal(1, n)?, normal(2, n)?, normal(3, (2, n))?.abs()?);
        let pair = |t: &Tensor| {
            Ok::<_, candle_core::Error>((Var::from_tensor(t)?, Var::from_tensor(&t.to_dtype(DType::F64)?)?))
        };
        let ((p32, p64), (mv32, mv64)) = (pair(&p)?, pair(&mv)?);
        moments(&mv32, &g, STEP)?;
        moments(&mv64, &g.to_dtype(DType::F64)?, STEP)?;
        assert!(largest_difference(&mv32, &mv64)? < 1e-6);
        adamw(&p32, &mv32, STEP)?;
        adamw(&p64, &mv64, STEP)?;
        assert!(largest_difference(&p32, &p64)? < 2e-6);
        average(&p32, &g, 0.99)?;
        average(&p64, &g.to_dtype(DType::F64)?, 0.99)?;
        assert!(largest_difference(&p32, &p64)? < 2e-6);
        Ok(())
    }
}
