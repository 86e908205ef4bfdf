//! Linear layers with GELU between them on CUDA.

use crate::cuda::{matmul, record, t};
use crate::ops::gelu::cuda as gelu;
use crate::ops::linear::cuda::{add_bias, column_sums};
use crate::precision::compute_dtype;
use crate::{Linear, deposit_tensor};
use candle_core::{DType, Result, Tensor};

/// What the backward pass needs of one layer.
struct SavedAffine {
    /// Input of the layer.
    x: Tensor,
    /// Weight of the layer, like its input in the type of computation.
    weight: Tensor,
    /// The product, without the bias: the input of the layer's GELU. `None` for the last layer.
    product: Option<Tensor>,
}

/// `x [R, I]` through `layers` -> `[R, O]` in the type of computation.
pub(super) fn mlp(x: &Tensor, anchor: &Tensor, layers: &[Linear]) -> Result<Tensor> {
    let dtype = compute_dtype(x);
    let keep = x.track_op() || anchor.track_op();
    let mut h = x.detach().to_dtype(dtype)?.contiguous()?;
    let mut saved = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        let weight = layer.weight.detach().to_dtype(dtype)?;
        let product = matmul(&h, t(&weight), dtype)?;
        let last = i + 1 == layers.len();
        let out = match (last, &layer.bias) {
            (false, bias) => gelu::forward(&product, bias.as_ref())?,
            (true, Some(bias)) => {
                add_bias(&product, bias)?;
                product.clone()
            }
            (true, None) => product.clone(),
        };
        if keep {
            saved.push(SavedAffine { x: h, weight, product: (!last).then_some(product) });
        }
        h = out;
    }
    let (layers, input) = (layers.to_vec(), x.clone());
    record(x, anchor, h, move |dy| {
        let mut d = dy.clone();
        while let Some(SavedAffine { x, weight, .. }) = saved.pop() {
            let layer = &layers[saved.len()];
            if let Some(bias) = &layer.bias {
                deposit_tensor(bias, || column_sums(&d))?;
            }
            deposit_tensor(&layer.weight, || matmul(t(&d), &x, DType::F32))?;
            let dx = || matmul(&d, &weight, dtype);
            d = match saved.last() {
                // The input is the GELU of the product before it.
                Some(SavedAffine { product: Some(product), .. }) => {
                    gelu::backward(product, layers[saved.len() - 1].bias.as_ref(), &dx()?)?
                }
                _ if input.track_op() => return dx()?.to_dtype(input.dtype()).map(Some),
                _ => return Ok(None),
            };
        }
        Ok(None)
    })
}
