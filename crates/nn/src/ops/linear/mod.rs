//! Affine map of the last dimension: `y = x W^T + b`.

pub(super) mod affine;
#[cfg(feature = "cuda")]
pub(in crate::ops) mod cuda;

use crate::kernel::{self, Mat};
use crate::precision::{compute_dtype, to_full};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use selfpatch_simd::wide;

/// Affine map of `x [.., I]` with `weight [O, I]`, `bias [O]` -> `[.., O]`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, inp) = weight.dims2()?;
    if x.dim(D::Minus1)? != inp {
        bail!("a linear layer {inp} -> {out} was given {:?}", x.dims())
    }
    if !kernel::fusible(x) {
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
    #[cfg(feature = "cuda")]
    if crate::cuda::fusible(x) && x.rank() == 2 && !x.track_op() && crate::cuda::holds([bias]) {
        return cuda::of_data(x, weight, bias);
    }
    if !kernel::fusible(x) {
        return reference(x, weight, Some(bias));
    }
    x.contiguous()?.apply_op3(&weight.contiguous()?, bias, Linear { in_order: true })
}

/// A linear layer from candle's own ops.
pub fn reference(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, inp) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    let dtype = compute_dtype(x);
    let y = x.to_dtype(dtype)?.contiguous()?.reshape(((), inp))?.matmul(&weight.to_dtype(dtype)?.t()?)?;
    let y = match bias {
        // Added in full precision: so is the sum of the rows that is its gradient.
        Some(bias) => to_full(&y)?.broadcast_add(bias)?.to_dtype(dtype)?,
        None => y,
    };
    y.reshape(shape)
}

/// `y += bias` for every row.
pub(super) fn add_bias(y: &mut [f32], bias: &[f32]) {
    wide!({
        for row in y.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
    });
}

struct Linear {
    /// Whether each output is summed in the order of its inputs.
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
        let (x, w) = (kernel::slice(x, x_layout)?, kernel::slice(w, w_layout)?);
        let m = x.len() / k.max(1);
        let mut y = vec![0f32; m * n];
        let mut dims = x_layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = n;
        }
        if let (true, Some(bias)) = (self.in_order, bias) {
            kernel::product_in_order(x, w, bias, k, &mut y);
            return Ok((CpuStorage::F32(y), Shape::from(dims)));
        }
        kernel::matmul_rows((m, n, k), &mut y, Mat::dense(x, k), Mat::transposed(w, k), |_, rows| {
            if let Some(bias) = bias {
                add_bias(rows, bias);
            }
        });
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }

    /// `dx = dy W`, `dW = dy^T x`, each only where it is needed.
    fn backward(x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (n, k) = weight.dims2()?;
        let m = x.elem_count() / k.max(1);
        kernel::with(dy, |dy| {
            let dx = if x.track_op() {
                let mut dx = vec![0f32; m * k];
                kernel::with(weight, |w| {
                    kernel::gemm_parallel((m, k, n), &mut dx, Mat::dense(dy, n), Mat::dense(w, k));
                    Ok(())
                })?;
                Some(Tensor::from_vec(dx, x.shape(), x.device())?)
            } else {
                None
            };
            let dw = if weight.track_op() {
                let mut dw = vec![0f32; n * k];
                kernel::with(x, |x| {
                    kernel::gemm_parallel((n, k, m), &mut dw, Mat::transposed(dy, n), Mat::dense(x, k));
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
        let bias = kernel::slice(b, bl)?;
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
            let sums = kernel::with(&dy, |dy| Ok(kernel::column_sums(dy, n)))?;
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
