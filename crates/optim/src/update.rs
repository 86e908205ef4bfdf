//! In-place element-wise updates. On the CPU in f32 each update is one parallel pass over its tensors; any
//! other device or dtype takes the plain path, which is also the truth in the tests.

use candle_core::{CpuStorage, DType, InplaceOp1, InplaceOp2, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;
use selfpatch_simd::wide;
use std::cell::Cell;

/// Elements handled by one parallel task.
const CHUNK: usize = 16 * 1024;

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
    let gradient = gradient.flatten_all()?;
    let (m, v) = (moments.get(0)?, moments.get(1)?);
    let m = ((m * c.beta1)? + (&gradient * (1. - c.beta1))?)?;
    let v = ((v * c.beta2)? + (gradient.sqr()? * (1. - c.beta2))?)?;
    moments.set(&Tensor::stack(&[m, v], 0)?)
}

/// `p = p (1 - lr decay) - lr m / bias1 / (sqrt(v / bias2) + eps)`.
pub(crate) fn adamw(param: &Var, moments: &Var, c: AdamW) -> Result<()> {
    let m = moments.get(0)?.reshape(param.shape())?;
    let v = moments.get(1)?.reshape(param.shape())?;
    let step = (m / ((v / c.bias2)?.sqrt()? + c.eps)?)?;
    param.set(&((param.as_tensor() * (1. - c.lr * c.decay))? - (step * (c.lr / c.bias1))?)?)
}

/// The gradient scaled by `factor`, then [`moments`], [`adamw`] and [`average`] (of another parameter
/// and its momentum) in one pass over memory. f32 on the CPU.
pub(crate) fn adamw_and_average(
    param: &Var,
    moments: &Var,
    follower: Option<(&Var, f64)>,
    gradient: &[f32],
    factor: f64,
    c: AdamW,
) -> Result<()> {
    let c = Single::of(c, factor);
    mutate(param, |p| {
        mutate(moments, |mv| {
            let n = gradient.len();
            if p.len() != n || mv.len() != 2 * n {
                bail!("a gradient of {n} and moments of {} elements for a parameter of {}", mv.len(), p.len())
            }
            let (m, v) = mv.split_at_mut(n);
            let work = p.par_chunks_mut(CHUNK).zip(m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)));
            let work = work.zip(gradient.par_chunks(CHUNK));
            let Some((to, momentum)) = follower else {
                work.for_each(|((p, (m, v)), g)| wide!(c.update(p, m, v, g)));
                return Ok(());
            };
            let (stay, take) = (momentum as f32, (1. - momentum) as f32);
            mutate(to, |to| {
                if to.len() != n {
                    bail!("an average of {} with {n} elements", to.len())
                }
                work.zip(to.par_chunks_mut(CHUNK)).for_each(|(((p, (m, v)), g), to)| {
                    wide!({
                        c.update(p, m, v, g);
                        to.iter_mut().zip(&*p).for_each(|(to, p)| *to = stay * *to + take * p);
                    });
                });
                Ok(())
            })
        })
    })
}

/// [`AdamW`] in single precision, and the factor of the gradient.
#[derive(Clone, Copy)]
struct Single {
    beta: (f32, f32),
    rest: (f32, f32),
    keep: f32,
    step: f32,
    eps: f32,
    /// 1 / bias2.
    inverse: f32,
    factor: f32,
}

impl Single {
    fn of(c: AdamW, factor: f64) -> Self {
        Self {
            beta: (c.beta1 as f32, c.beta2 as f32),
            rest: ((1. - c.beta1) as f32, (1. - c.beta2) as f32),
            keep: (1. - c.lr * c.decay) as f32,
            step: (c.lr / c.bias1) as f32,
            eps: c.eps as f32,
            inverse: (1. / c.bias2) as f32,
            factor: factor as f32,
        }
    }

    #[inline(always)]
    fn update(self, p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
        for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * self.factor;
            *m = self.beta.0 * *m + self.rest.0 * g;
            *v = self.beta.1 * *v + self.rest.1 * g * g;
            *p = *p * self.keep - self.step * (*m / ((*v * self.inverse).sqrt() + self.eps));
        }
    }
}

/// Runs `f` on the elements of a parameter.
fn mutate(var: &Var, f: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
    struct Once<F>(Cell<Option<F>>);

    impl<F: FnOnce(&mut [f32]) -> Result<()>> InplaceOp1 for Once<F> {
        fn name(&self) -> &'static str {
            "update"
        }

        fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
            match self.0.take() {
                Some(f) => f(mutable(storage, layout)?),
                None => bail!("an update ran twice"),
            }
        }
    }

    var.inplace_op1(&Once(Cell::new(Some(f))))
}

/// `to = momentum to + (1 - momentum) from`.
pub(crate) fn average(to: &Var, from: &Tensor, momentum: f64) -> Result<()> {
    if in_place(to) {
        return to.inplace_op2(from, &Average(momentum));
    }
    to.set(&((to.as_tensor() * momentum)? + (from.detach() * (1. - momentum))?)?)
}

pub(crate) fn in_place(t: &Var) -> bool {
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
            wide!(to.iter_mut().zip(from).for_each(|(t, &f)| *t = keep * *t + take * f));
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfpatch_nn::random::normal;

    #[test]
    fn one_pass_average_equals_plain_path() -> Result<()> {
        let n = CHUNK + 77;
        let (from, to) = (normal(1, n)?, normal(2, n)?);
        let (to32, to64) = (Var::from_tensor(&to)?, Var::from_tensor(&to.to_dtype(DType::F64)?)?);
        average(&to32, &from, 0.99)?;
        average(&to64, &from.to_dtype(DType::F64)?, 0.99)?;
        let error = (to32.to_dtype(DType::F64)? - to64.as_tensor())?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(error < 2e-6, "{error}");
        Ok(())
    }
}
