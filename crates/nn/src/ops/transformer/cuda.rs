//! The stack of blocks on CUDA: products by cuBLAS, everything between them in a few passes over memory.
//! The residual stream is f32; what the products take and give has the type of computation.

use super::pass::{Activations, Survivals};
use crate::cuda::{matmul, record, spread, t, uninitialised};
use crate::ops::attention::cuda::{self as attention, Packed};
use crate::ops::gelu::cuda as gelu;
use crate::ops::layer_norm::branch::Branch;
use crate::ops::layer_norm::cuda::{self as layer_norm, Normed};
use crate::ops::linear::cuda::{branch_gradient, column_sums, residual};
use crate::precision::compute_dtype;
use crate::{Block, LayerNorm, Linear, Sequences, Survival, deposit_tensor};
use candle_core::{DType, Device, Result, Tensor};

/// Whether the kernels take blocks of this shape.
pub(super) fn fits(dim: usize, blocks: &[Block]) -> bool {
    layer_norm::fits(dim) && blocks.iter().all(|b| attention::fits(dim / b.heads))
}

/// A block, its weights in the type of computation, and how much of each row's branches is kept.
struct Weighed {
    block: Block,
    qkv: Tensor,
    proj: Tensor,
    fc1: Tensor,
    fc2: Tensor,
    /// Scales of each row's two branches, `[T]` each; `None` where nothing is dropped.
    scales: [Option<Tensor>; 2],
}

/// What the backward pass needs of one block.
struct SavedOnDevice {
    norm1: Normed,
    qkv: Tensor,
    out: Tensor,
    lse: Tensor,
    norm2: Normed,
    /// The product of fc1, without its bias.
    hidden: Tensor,
    /// Input of fc2.
    activated: Tensor,
}

enum Kept {
    All(Box<SavedOnDevice>),
    /// The block's input.
    Input(Tensor),
}

/// `x [T, D]` through `blocks` -> `[T, D]` f32.
pub(super) fn transformer(
    x: &Tensor,
    anchor: &Tensor,
    sequences: &Sequences,
    blocks: &[Block],
    survivals: Option<&Survivals>,
    activations: Activations,
) -> Result<Tensor> {
    let (dtype, device) = (compute_dtype(x), x.device().clone());
    let packed = Packed::new(sequences, &device)?;
    let keep = x.track_op() || anchor.track_op();
    let input = x.clone();
    let mut x = x.detach().to_dtype(DType::F32)?.contiguous()?;
    let (mut kept, mut branch): (Vec<(Weighed, Kept)>, Option<Branch>) = (Vec::new(), None);
    for (i, block) in blocks.iter().enumerate() {
        let scales = match survivals {
            Some(s) => [scale(s[i][0].as_ref(), sequences, &device)?, scale(s[i][1].as_ref(), sequences, &device)?],
            None => [None, None],
        };
        let weighed = Weighed::new(block, scales, dtype)?;
        let (saved, next) = weighed.forward(&x, branch.as_ref(), &packed, dtype)?;
        x = saved.norm2.x.clone();
        branch = Some(next);
        if keep {
            let save = match activations {
                Activations::Keep => Kept::All(Box::new(saved)),
                Activations::Recompute => Kept::Input(saved.norm1.x),
            };
            kept.push((weighed, save));
        }
    }
    let out = match &branch {
        Some(branch) => residual(&x, branch)?,
        None => x,
    };
    record(&input.clone(), anchor, out, move |dy| {
        let dx = dy.copy()?; // updated in place
        let mut dfed = None; // of the feed-forward branch
        while let Some((weighed, of_block)) = kept.pop() {
            let saved = match of_block {
                Kept::All(saved) => *saved,
                Kept::Input(x) => weighed.forward(&x, None, &packed, dtype)?.0,
            };
            let dy = match dfed.take() {
                Some(dy) => dy,
                None => branch_gradient(&dx, weighed.scales[1].as_ref(), dtype)?,
            };
            let before = kept.last().map(|(before, _)| before.scales[1].as_ref());
            dfed = weighed.backward(saved, &packed, (&dx, dy), before, dtype)?;
        }
        input.track_op().then(|| dx.to_dtype(input.dtype())).transpose()
    })
}

/// What each row's branch is multiplied with, `[T]`.
fn scale(survival: Option<&Survival>, sequences: &Sequences, device: &Device) -> Result<Option<Tensor>> {
    let Some(survival) = survival else { return Ok(None) };
    let of = |alive: &bool| if *alive { survival.scale as f32 } else { 0. };
    let runs = survival.alive.iter().zip(sequences.lengths()).map(|(alive, &n)| (n, of(alive)));
    Ok(Some(spread(runs, device)?))
}

pub(in crate::ops) fn norm(x: &Tensor, branch: Option<&Branch>, norm: &LayerNorm, dtype: DType) -> Result<Normed> {
    layer_norm::forward(x, branch, (&norm.weight, &norm.bias), norm.eps, dtype)
}

/// Deposits the gradients of a norm's parameters; adds what it hands back to `dx`.
pub(in crate::ops) fn norm_backward(du: &Tensor, normed: &Normed, norm: &LayerNorm, dx: &Tensor) -> Result<()> {
    let (dw, db) = layer_norm::backward(du, (&normed.x, &normed.stats), &norm.weight, dx, (None, None))?;
    deposit_tensor(&norm.weight, || Ok(dw))?;
    deposit_tensor(&norm.bias, || Ok(db))
}

/// [`norm_backward`], and the gradient of the branch that was added before the norm, whose rows are scaled by `scale`.
fn norm_and_branch_backward(
    du: &Tensor,
    normed: &Normed,
    norm: &LayerNorm,
    dx: &Tensor,
    scale: Option<&Tensor>,
) -> Result<Tensor> {
    let branch = uninitialised(dx.shape(), du.dtype(), dx.device())?;
    let of = (&normed.x, &normed.stats);
    let (dw, db) = layer_norm::backward(du, of, &norm.weight, dx, (scale, Some(&branch)))?;
    deposit_tensor(&norm.weight, || Ok(dw))?;
    deposit_tensor(&norm.bias, || Ok(db))?;
    Ok(branch)
}

/// Deposits the gradients of a linear layer, given those of its output and its input.
pub(in crate::ops) fn deposit_linear(layer: &Linear, dy: &Tensor, x: &Tensor) -> Result<()> {
    deposit_tensor(&layer.weight, || matmul(t(dy), x, DType::F32))?;
    match &layer.bias {
        Some(bias) => deposit_tensor(bias, || column_sums(dy)),
        None => Ok(()),
    }
}

impl Weighed {
    fn new(block: &Block, scales: [Option<Tensor>; 2], dtype: DType) -> Result<Self> {
        let cast = |layer: &Linear| layer.weight.detach().to_dtype(dtype);
        let (qkv, proj) = (cast(&block.qkv)?, cast(&block.proj)?);
        let (fc1, fc2) = (cast(&block.mlp.fc1)?, cast(&block.mlp.fc2)?);
        Ok(Self { block: block.clone(), qkv, proj, fc1, fc2, scales })
    }

    /// Adds `branch` to `x [T, D]` and runs the block. Its feed-forward branch is left to be added by the next
    /// pass over memory.
    fn forward(
        &self,
        x: &Tensor,
        branch: Option<&Branch>,
        packed: &Packed,
        dtype: DType,
    ) -> Result<(SavedOnDevice, Branch)> {
        let block = &self.block;
        let branch_of = |values: Tensor, layer: &Linear, scale: &Option<Tensor>| Branch {
            values,
            bias: layer.bias.as_ref().map(Tensor::detach),
            scale: scale.clone(),
        };
        let norm1 = norm(x, branch, &block.norm1, dtype)?;
        let qkv = matmul(&norm1.out, t(&self.qkv), dtype)?;
        let (out, lse) = attention::forward(&qkv, block.qkv.bias.as_ref(), packed, block.heads)?;
        let attended = branch_of(matmul(&out, t(&self.proj), dtype)?, &block.proj, &self.scales[0]);
        let norm2 = norm(&norm1.x, Some(&attended), &block.norm2, dtype)?;
        let hidden = matmul(&norm2.out, t(&self.fc1), dtype)?;
        let activated = gelu::forward(&hidden, block.mlp.fc1.bias.as_ref())?;
        let fed = branch_of(matmul(&activated, t(&self.fc2), dtype)?, &block.mlp.fc2, &self.scales[1]);
        Ok((SavedOnDevice { norm1, qkv, out, lse, norm2, hidden, activated }, fed))
    }

    /// Takes `dx [T, D]` (f32, in place) from the block's output to its input; `dy`: its share for the feed-forward
    /// branch. If there is a block before, whose feed-forward branch is scaled by `before`: the share of that one.
    fn backward(
        &self,
        saved: SavedOnDevice,
        packed: &Packed,
        (dx, dy): (&Tensor, Tensor),
        before: Option<Option<&Tensor>>,
        dtype: DType,
    ) -> Result<Option<Tensor>> {
        let (block, mlp) = (&self.block, &self.block.mlp);
        let SavedOnDevice { norm1, qkv, out, lse, norm2, hidden, activated } = saved;
        let dhidden = gelu::backward(&hidden, mlp.fc1.bias.as_ref(), &matmul(&dy, &self.fc2, dtype)?)?;
        deposit_linear(&mlp.fc2, &dy, &activated)?;
        deposit_linear(&mlp.fc1, &dhidden, &norm2.out)?;
        let du = matmul(&dhidden, &self.fc1, dtype)?;
        let dy = norm_and_branch_backward(&du, &norm2, &block.norm2, dx, self.scales[0].as_ref())?;

        deposit_linear(&block.proj, &dy, &out)?;
        let dout = matmul(&dy, &self.proj, dtype)?;
        let dqkv = attention::backward((&qkv, block.qkv.bias.as_ref()), packed, block.heads, (&out, &lse), &dout)?;
        deposit_linear(&block.qkv, &dqkv, &norm1.out)?;
        let du = matmul(&dqkv, &self.qkv, dtype)?;
        match before {
            Some(scale) => norm_and_branch_backward(&du, &norm1, &block.norm1, dx, scale).map(Some),
            None => norm_backward(&du, &norm1, &block.norm1, dx).map(|()| None),
        }
    }
}
