//! A norm's parameters as the CPU kernels of whole blocks read them.

use super::{affine_rows, backward_rows, forward_rows};
use crate::LayerNorm;
use crate::gradients::deposit;
use crate::kernel::{self, View};
use candle_core::Result;

/// A norm's parameters, borrowed.
pub(in crate::ops) struct Norm<'a> {
    weight: View<'a>,
    bias: View<'a>,
    eps: f32,
}

impl<'a> Norm<'a> {
    pub(in crate::ops) fn of(layer: &'a LayerNorm) -> Result<Self> {
        Ok(Self { weight: View::of(&layer.weight)?, bias: View::of(&layer.bias)?, eps: layer.eps as f32 })
    }

    pub(in crate::ops) fn width(&self) -> usize {
        self.weight.len()
    }

    /// Normalises rows; see [`forward_rows`].
    pub(in crate::ops) fn rows(&self, x: &[f32], kept: Option<(&mut [f32], &mut [f32])>, y: &mut [f32]) {
        forward_rows(x, (&self.weight, &self.bias), self.eps, kept, y);
    }

    /// Computes `y` once more, from the normalised rows that were kept.
    pub(in crate::ops) fn rows_again(&self, hat: &[f32], y: &mut [f32]) {
        affine_rows(hat, (&self.weight, &self.bias), y);
    }

    /// Backward pass of rows; see [`backward_rows`].
    pub(in crate::ops) fn rows_backward(
        &self,
        hat: &[f32],
        inv: &[f32],
        dy: &[f32],
        dx: &mut [f32],
    ) -> (Vec<f32>, Vec<f32>) {
        backward_rows(hat, inv, dy, &self.weight, dx)
    }

    /// Deposits the sums of what [`Norm::rows_backward`] returned for each part of the rows.
    pub(in crate::ops) fn deposit(&self, layer: &LayerNorm, parts: Vec<(Vec<f32>, Vec<f32>)>) -> Result<()> {
        let (dw, db): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        deposit(&layer.weight, || (&*kernel::add_up(dw, self.width())).into())?;
        deposit(&layer.bias, || (&*kernel::add_up(db, self.width())).into())
    }
}
