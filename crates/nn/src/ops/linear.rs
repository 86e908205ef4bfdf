//! Affine map of the last dimension: `y = x W^T + b`.

use super::cpu::{self, Mat, ROWS_PER_TASK};
use super::sequential;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `x [.., I]`, `weight [O, I]`, `bias [O]` -> `[.., O]`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, inp) = weight.dims2()?;
    if x.dim(D::Minus1)? != inp {
        bail!("a linear layer {inp} -> {out} was given {:?}", x.dims())
    }
    if !cpu::fusible(x) {
        return reference(x, weight, bias);
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let op = Linear { in_order: false };
    match bias {
        Some(bias) => x.apply_op3(&weight, bias, op),
        None => x.apply_op2(&weight, op),
    }
}

/// [`linear`] with bias, each output summed in the order of its inputs and the bias added last, as
/// torch's convolution sums. For the projection of raw pixels, whose rounding every later layer
/// inherits; slower than [`linear`].
pub fn linear_in_order(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (out, inp) = weight.dims2()?;
    if x.dim(D::Minus1)? != inp || bias.dims() != [out] || out * inp == 0 {
        bail!("a linear layer {inp} -> {out} with bias {:?} was given {:?}", bias.dims(), x.dims())
    }
    if !cpu::fusible(x) {
        return reference(x, weight, Some(bias));
    }
    x.contiguous()?.apply_op3(&weight.contiguous()?, bias, Linear { in_order: true })
}

/// The same from candle's own ops.
pub fn reference(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, inp) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    let y = x.contiguous()?.reshape(((), inp))?.matmul(&weight.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    y.reshape(shape)
}

struct Linear {
    /// Sum each output in the order of its inputs.
    in_order: bool,
}

impl Linear {
    fn forward(
        &self,
        (x, x_layout): (&CpuStorage, &Layout),
        (w, w_layout): (&CpuStorage, &Layout),
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, k) = w_layout.shape().dims2()?;
        let (x, w) = (cpu::slice(x, x_layout)?, cpu::slice(w, w_layout)?);
        let m = x.len() / k.max(1);
        let mut y = vec![0f32; m * n];
        let mut dims = x_layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = n;
        }
        if let (true, Some(bias)) = (self.in_order, bias) {
            sequential::product(x, w, bias, k, &mut y);
            return Ok((CpuStorage::F32(y), Shape::from(dims)));
        }
        if let Some(bias) = bias {
            y.par_chunks_mut(ROWS_PER_TASK * n).for_each(|rows| {
                rows.chunks_exact_mut(n).for_each(|row| row.copy_from_slice(bias));
            });
        }
        let a = Mat { data: x, rows: k, cols: 1 };
        let b = Mat { data: w, rows: 1, cols: k };
        cpu::gemm((m, n, k), &mut y, n, bias.is_some(), 1.0, a, b, true);
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }

    /// `dx = dy W`, `dW = dy^T x`, each only where it is needed.
    fn backward(x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (n, k) = weight.dims2()?;
        let m = x.elem_count() / k.max(1);
        cpu::with(dy, |dy| {
            let dx = if x.track_op() {
                let mut dx = vec![0f32; m * k];
                cpu::with(weight, |w| {
                    let (a, b) = (Mat { data: dy, rows: n, cols: 1 }, Mat { data: w, rows: k, cols: 1 });
                    cpu::gemm((m, k, n), &mut dx, k, false, 1.0, a, b, true);
                    Ok(())
                })?;
                Some(Tensor::from_vec(dx, x.shape(), x.device())?)
            } else {
                None
            };
            let dw = if weight.track_op() {
                let mut dw = vec![0f32; n * k];
                cpu::with(x, |x| {
                    let (a, b) = (Mat { data: dy, rows: 1, cols: n }, Mat { data: x, rows: k, cols: 1 });
                    cpu::gemm((n, k, m), &mut dw, k, false, 1.0, a, b, true);
                    Ok(())
                })?;
                Some(Tensor::from_vec(dw, (n, k), x.device())?)
            } else {
                None
            };
            Ok((dx, dw))
        })
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout, w: &CpuStorage, wl: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward((x, xl), (w, wl), None)
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Self::backward(x, w, &dy.contiguous()?)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let bias = cpu::slice(b, bl)?;
        if bias.len() != wl.dims()[0] {
            bail!("a linear layer with {} outputs was given a bias of {}", wl.dims()[0], bias.len())
        }
        self.forward((x, xl), (w, wl), Some(bias))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (dx, dw) = Self::backward(x, w, &dy)?;
        let db = if b.track_op() {
            let n = b.elem_count();
            let sums = cpu::with(&dy, |dy| Ok(cpu::column_sums(dy, n)))?;
            Some(Tensor::from_vec(sums, n, x.device())?)
        } else {
            None
        };
        Ok((dx, dw, db))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{agrees, finite_differences};
    use candle_core::{Device, Result, Tensor};

    #[test]
    fn equals_reference() -> Result<()> {
        agrees(
            &[&[3, 70, 17], &[9, 17], &[9]],
            |x| super::linear(&x[0], &x[1], Some(&x[2])),
            |x| super::reference(&x[0], &x[1], Some(&x[2])),
        )?;
        agrees(&[&[5, 17], &[9, 17]], |x| super::linear(&x[0], &x[1], None), |x| super::reference(&x[0], &x[1], None))
    }

    #[test]
    fn gradient_is_the_slope() -> Result<()> {
        let w = Tensor::new(&[[0.5f32, -1.0, 2.0], [0.3, 1.0, -0.2]], &Device::Cpu)?;
        finite_differences(&[4, 3], |x| super::linear(x, &w, None))
    }
}
