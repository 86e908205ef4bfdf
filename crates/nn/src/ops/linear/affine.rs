//! A linear layer's parameters as the CPU kernels of whole blocks read them.

use super::add_bias;
use crate::Linear;
use crate::gradients::deposit;
use crate::kernel::{self, Buffer, Mat, View};
use candle_core::Result;
use rayon::prelude::*;
use std::borrow::Cow;

/// A linear layer's parameters, borrowed.
pub(in crate::ops) struct Affine<'a> {
    weight: View<'a>,
    bias: Option<View<'a>>,
    /// Transposed weight, `[inputs, outputs]`, if many rows are to come.
    transposed: Option<Buffer>,
    inputs: usize,
    outputs: usize,
}

/// Number of rows from which on the weights are transposed for the forward product.
const MANY_ROWS: usize = 512;

impl<'a> Affine<'a> {
    pub(in crate::ops) fn of(layer: &'a Linear) -> Result<Self> {
        let (outputs, inputs) = layer.weight.dims2()?;
        let bias = layer.bias.as_ref().map(View::of).transpose()?;
        Ok(Self { weight: View::of(&layer.weight)?, bias, transposed: None, inputs, outputs })
    }

    /// [`Affine::of`], prepared for a forward pass of `rows` rows.
    pub(in crate::ops) fn forward_of(layer: &'a Linear, rows: usize) -> Result<Self> {
        let mut affine = Self::of(layer)?;
        if rows >= MANY_ROWS {
            affine.transposed = Some(kernel::transposed(&affine.weight, affine.inputs));
        }
        Ok(affine)
    }

    /// The factor `W^T`.
    fn factor(&self) -> Mat<'_> {
        match &self.transposed {
            Some(w) => Mat::dense(w, self.outputs),
            None => Mat::transposed(&self.weight, self.inputs),
        }
    }

    pub(in crate::ops) fn outputs(&self) -> usize {
        self.outputs
    }

    /// The bias; zeros where there is none.
    pub(in crate::ops) fn bias(&self) -> Cow<'_, [f32]> {
        match &self.bias {
            Some(bias) => Cow::Borrowed(bias),
            None => Cow::Owned(vec![0.; self.outputs]),
        }
    }

    /// `y = x W^T + b` on all threads.
    pub(in crate::ops) fn forward(&self, x: &[f32], y: &mut [f32]) {
        let (k, n) = (self.inputs, self.outputs);
        let rows = kernel::row_block(x.len() / k);
        x.par_chunks(rows * k).zip(y.par_chunks_mut(rows * n)).for_each(|(x, y)| {
            self.product(x, y);
            if let Some(bias) = &self.bias {
                add_bias(y, bias);
            }
        });
    }

    /// `y = x W^T` on all threads.
    pub(in crate::ops) fn forward_unbiased(&self, x: &[f32], y: &mut [f32]) {
        let dims = (x.len() / self.inputs, self.outputs, self.inputs);
        kernel::matmul_rows(dims, y, Mat::dense(x, self.inputs), self.factor(), |_, _| ());
    }

    /// `y = x W^T` on all threads even for a few rows, whose columns are then divided.
    pub(in crate::ops) fn product_of_few(&self, x: &[f32], y: &mut [f32]) {
        let dims = (x.len() / self.inputs, self.outputs, self.inputs);
        kernel::gemm_parallel(dims, y, Mat::dense(x, self.inputs), self.factor());
    }

    /// `dx = dy W` on all threads even for a few rows.
    pub(in crate::ops) fn product_backward_of_few(&self, dy: &[f32], dx: &mut [f32]) {
        let dims = (dy.len() / self.outputs, self.inputs, self.outputs);
        kernel::gemm_parallel(dims, dx, Mat::dense(dy, self.outputs), Mat::dense(&self.weight, self.inputs));
    }

    /// `y = x W^T` on this thread.
    pub(in crate::ops) fn product(&self, x: &[f32], y: &mut [f32]) {
        let dims = (x.len() / self.inputs, self.outputs, self.inputs);
        kernel::gemm(dims, y, self.outputs, false, 1., Mat::dense(x, self.inputs), self.factor());
    }

    /// `dx = dy W` on this thread.
    pub(in crate::ops) fn product_backward(&self, dy: &[f32], dx: &mut [f32]) {
        let dims = (dy.len() / self.outputs, self.inputs, self.outputs);
        let w = Mat::dense(&self.weight, self.inputs);
        kernel::gemm(dims, dx, self.inputs, false, 1., Mat::dense(dy, self.outputs), w);
    }

    /// `dx = dy W` on all threads.
    pub(in crate::ops) fn backward(&self, dy: &[f32], dx: &mut [f32]) {
        let dims = (dy.len() / self.outputs, self.inputs, self.outputs);
        let w = Mat::dense(&self.weight, self.inputs);
        kernel::matmul_rows(dims, dx, Mat::dense(dy, self.outputs), w, |_, _| ());
    }

    /// Deposits `dW = dy^T x` and `db = sum(dy)`.
    pub(in crate::ops) fn deposit(&self, layer: &Linear, dy: &[f32], x: &[f32]) -> Result<()> {
        let (n, k) = (self.outputs, self.inputs);
        deposit(&layer.weight, || {
            let mut dw = Buffer::stale(n * k);
            kernel::gemm_parallel((n, k, x.len() / k), &mut dw, Mat::transposed(dy, n), Mat::dense(x, k));
            dw
        })?;
        match &layer.bias {
            Some(bias) => deposit(bias, || (&*kernel::column_sums(dy, n)).into()),
            None => Ok(()),
        }
    }
}
