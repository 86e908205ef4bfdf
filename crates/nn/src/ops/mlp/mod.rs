//! Linear layers with GELU between them: `h_0 = x`, `u_i = h_{i-1} W_i^T + b_i`, `h_i = gelu(u_i)`,
//! the last `u` being the output. Rows are independent: each thread takes a block of them through all
//! layers.

#[cfg(feature = "cuda")]
mod cuda;

use super::anchor::anchor;
use super::gelu;
use super::linear::affine::Affine;
use super::linear::{add_bias, reference as linear_reference};
use crate::Linear;
use crate::kernel::{self, Buffer, View, row_block};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::Mutex;

/// `x [R, I]` through `layers` -> `[R, O]`.
pub fn mlp(x: &Tensor, layers: &[Linear]) -> Result<Tensor> {
    let mut width = x.dims2()?.1;
    for layer in layers {
        let (out, inp) = layer.weight.dims2()?;
        if inp != width || layer.bias.as_ref().is_some_and(|b| b.dims() != [out]) {
            bail!("a linear layer {inp} -> {out} was given rows of width {width}")
        }
        width = out;
    }
    let Some(anchor) = anchor(layers.iter().flat_map(Linear::parameters)) else { return Ok(x.clone()) };
    #[cfg(feature = "cuda")]
    if crate::cuda::fusible(x) && crate::cuda::holds(layers.iter().flat_map(Linear::parameters)) {
        return cuda::mlp(x, anchor, layers);
    }
    if !kernel::fusible(x) {
        return reference(x, layers);
    }
    let x = x.contiguous()?;
    let keep = x.track_op() || anchor.track_op();
    let op = MlpOp { layers: layers.to_vec(), keep, saved: Mutex::new(None) };
    if keep { x.apply_op2(anchor, op) } else { x.apply_op2_no_bwd(anchor, &op) }
}

/// Layers with GELU between them from candle's own ops.
pub fn reference(x: &Tensor, layers: &[Linear]) -> Result<Tensor> {
    let mut x = x.clone();
    for (i, layer) in layers.iter().enumerate() {
        let input = if i == 0 { x } else { gelu::reference(&x)? };
        x = linear_reference(&input, &layer.weight, layer.bias.as_ref())?;
    }
    Ok(x)
}

/// One thread's rows: input, output, each layer's values before and after its GELU.
type RowBlock<'a> = (&'a [f32], &'a mut [f32], Vec<(&'a mut [f32], &'a mut [f32])>);

/// Values before and after each GELU.
type SavedLayers = Vec<(Buffer, Buffer)>;

struct MlpOp {
    layers: Vec<Linear>,
    keep: bool,
    /// Values before and after each GELU, taken by the backward pass.
    saved: Mutex<Option<SavedLayers>>,
}

impl CustomOp2 for MlpOp {
    fn name(&self) -> &'static str {
        "mlp"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = kernel::slice(x, layout)?;
        let (rows, inputs) = layout.shape().dims2()?;
        let layers = self.layers.iter().map(|l| Affine::forward_of(l, rows)).collect::<Result<Vec<_>>>()?;
        let Some((last, hidden)) = layers.split_last() else { bail!("an mlp without layers") };
        let mut saved: SavedLayers =
            hidden.iter().map(|l| (Buffer::stale(rows * l.outputs()), Buffer::stale(rows * l.outputs()))).collect();
        let mut y = vec![0f32; rows * last.outputs()];
        let block = row_block(rows);
        if block >= rows {
            let mut input = x;
            for (layer, (u, h)) in hidden.iter().zip(&mut saved) {
                layer.product_of_few(input, u);
                gelu::forward_biased(u, &layer.bias(), h);
                input = h;
            }
            last.product_of_few(input, &mut y);
            add_bias(&mut y, &last.bias());
            return Ok((CpuStorage::F32(y), Shape::from((rows, self.finish(layers, saved)))));
        }
        // Cut everything into the threads' blocks of rows.
        let mut blocks: Vec<RowBlock> = x
            .chunks((block * inputs).max(1))
            .zip(y.chunks_mut((block * last.outputs()).max(1)))
            .map(|(x, y)| (x, y, Vec::new()))
            .collect();
        for (layer, (u, h)) in hidden.iter().zip(&mut saved) {
            let size = (block * layer.outputs()).max(1);
            for (block, (u, h)) in blocks.iter_mut().zip(u.chunks_mut(size).zip(h.chunks_mut(size))) {
                block.2.push((u, h));
            }
        }
        blocks.into_par_iter().with_max_len(1).for_each(|(x, y, hiddens)| {
            let mut input = x;
            for (layer, (u, h)) in hidden.iter().zip(hiddens) {
                layer.product(input, u);
                gelu::forward_biased(u, &layer.bias(), h);
                input = h;
            }
            last.product(input, y);
            add_bias(y, &last.bias());
        });
        Ok((CpuStorage::F32(y), Shape::from((rows, self.finish(layers, saved)))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(mut saved) = self.saved.lock().ok().and_then(|mut slot| slot.take()) else {
            bail!("the backward pass of an mlp can run only once per forward pass")
        };
        let (rows, inputs) = x.dims2()?;
        let dy = dy.contiguous()?;
        let dy = View::of(&dy)?;
        let input = View::of(x)?;
        // The gradient of u_i of the layer above the one at hand.
        let mut above: Option<Buffer> = None;
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let weights = Affine::of(layer)?;
            let du: &[f32] = above.as_deref().unwrap_or(&dy);
            let Some((u, h)) = saved.pop() else {
                // The first layer.
                weights.deposit(layer, du, &input)?;
                if i > 0 || !x.track_op() {
                    return Ok((None, None));
                }
                let mut dx = vec![0f32; rows * inputs];
                weights.backward(du, &mut dx);
                return Ok((Some(Tensor::from_vec(dx, (rows, inputs), x.device())?), None));
            };
            let wide = u.len() / rows.max(1);
            let mut below = Buffer::stale(u.len());
            let block = row_block(rows);
            let size = (block * wide).max(1);
            if block >= rows {
                weights.product_backward_of_few(du, &mut below);
                gelu::backward(&u, &h, &mut below);
                weights.deposit(layer, du, &h)?;
                above = Some(below);
                continue;
            }
            below
                .par_chunks_mut(size)
                .zip(du.par_chunks((block * weights.outputs()).max(1)))
                .zip(u.par_chunks(size).zip(h.par_chunks(size)))
                .for_each(|((below, du), (u, h))| {
                    weights.product_backward(du, below);
                    gelu::backward(u, h, below);
                });
            weights.deposit(layer, du, &h)?;
            above = Some(below);
        }
        bail!("an mlp without layers")
    }
}

impl MlpOp {
    /// Keeps what the backward pass needs; returns the width of the output.
    fn finish(&self, layers: Vec<Affine>, saved: SavedLayers) -> usize {
        if let (true, Ok(mut slot)) = (self.keep, self.saved.lock()) {
            *slot = Some(saved);
        }
        layers.last().map_or(0, Affine::outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, equal_with_parameters};
    use candle_nn::VarBuilder;

    #[test]
    fn equals_reference_for_every_depth() -> Result<()> {
        for (rows, widths) in [(3, &[5, 4][..]), (70, &[9, 33, 7]), (300, &[9, 33, 20, 5]), (1, &[2, 3, 2])] {
            let build = |vb: VarBuilder| {
                widths
                    .windows(2)
                    .enumerate()
                    .map(|(i, w)| Linear::new(w[0], w[1], vb.pp(i)))
                    .collect::<Result<Vec<_>>>()
            };
            equal_with_parameters(Case {
                inputs: &[&[rows, widths[0]]],
                build,
                fused: |x: &[Tensor], layers: &Vec<Linear>| mlp(&x[0], layers),
                reference: |x: &[Tensor], layers: &Vec<Linear>| reference(&x[0], layers),
            })?;
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn cuda_equals_reference() -> Result<()> {
        use crate::testing::{Case, equal_in_every_precision};
        for widths in [&[24, 40, 16][..], &[17, 9, 30, 5], &[8, 8]] {
            equal_in_every_precision(Case {
                inputs: &[&[300, widths[0]]],
                build: |vb: candle_nn::VarBuilder| {
                    widths.windows(2).enumerate().map(|(i, w)| Linear::new(w[0], w[1], vb.pp(i))).collect()
                },
                fused: |x: &[Tensor], layers: &Vec<Linear>| mlp(&x[0], layers),
                reference: |x: &[Tensor], layers: &Vec<Linear>| reference(&x[0], layers),
            })?;
        }
        Ok(())
    }
}
