//! Class attention: the query token of each sequence reads itself and the sequence's tokens; only the
//! query is updated. For each block `c += attn(norm1(c), norm1([c; x]))`, then `c += mlp(norm2(c))`.

pub(super) mod attend;
#[cfg(feature = "cuda")]
pub(super) mod cuda;
#[cfg(feature = "cuda")]
pub(super) mod kernels;

use super::class_attention_block::{ClassBlockWeights, SavedClassBlock, backward, forward};
use super::{gelu_reference, layer_norm_reference, linear_reference};
use crate::kernel::{self, View, fusible};
use crate::precision::to_full;
use crate::{ClassBlock, LayerNorm, Linear, Sequences};
use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor, bail};
use candle_nn::ops::softmax;
use std::sync::Mutex;

/// Class attention of `x [T, D]` with the learned query `cls` (`D` elements) -> the query of each sequence after
/// all blocks, `[S, D]`.
pub fn class_attention(x: &Tensor, sequences: &Sequences, cls: &Tensor, blocks: &[ClassBlock]) -> Result<Tensor> {
    let (rows, dim) = x.dims2()?;
    sequences.check(rows)?;
    check(dim, cls, blocks)?;
    #[cfg(feature = "cuda")]
    if let Some(anchor) =
        super::anchor::anchor(std::iter::once(cls).chain(blocks.iter().flat_map(ClassBlock::parameters)))
        && cuda::applies(x, cls, blocks)?
    {
        return cuda::class_attention(x, anchor, sequences, cls, blocks);
    }
    if !fusible(x) {
        return reference(x, sequences, cls, blocks);
    }
    let (x, cls) = (x.contiguous()?, cls.contiguous()?);
    if !cls.track_op() && !x.track_op() && blocks.iter().flat_map(ClassBlock::parameters).any(Tensor::track_op) {
        return reference(&x, sequences, &cls, blocks); // neither argument puts the op into the graph
    }
    let keep = x.track_op() || cls.track_op();
    let op = ClassAttention { blocks: blocks.to_vec(), sequences: sequences.clone(), keep, saved: Mutex::default() };
    if keep { x.apply_op2(&cls, op) } else { x.apply_op2_no_bwd(&cls, &op) }
}

/// Class attention from candle's own ops.
pub fn reference(x: &Tensor, sequences: &Sequences, cls: &Tensor, blocks: &[ClassBlock]) -> Result<Tensor> {
    Ok(reference_with_attention(x, sequences, cls, blocks)?.0)
}

/// [`reference()`], and the probabilities of each block over each run of equally long sequences,
/// `[count, heads, 1, 1 + N]`; entry 0 is the query token itself.
pub fn reference_with_attention(
    x: &Tensor,
    sequences: &Sequences,
    cls: &Tensor,
    blocks: &[ClassBlock],
) -> Result<(Tensor, Vec<Vec<Tensor>>)> {
    let (mut queries, mut maps) = (Vec::new(), vec![Vec::new(); blocks.len()]);
    for x in sequences.split(x)? {
        let (b, n, d) = x.dims3()?;
        let mut c = cls.reshape((1, 1, d))?.broadcast_as((b, 1, d))?;
        for (block, maps) in blocks.iter().zip(&mut maps) {
            let u = norm(&Tensor::cat(&[&c, &x], 1)?, &block.norm1)?;
            let head = d / block.heads;
            let split = |t: Tensor, n: usize| t.reshape((b, n, block.heads, head))?.transpose(1, 2)?.contiguous();
            let q = split(linear(&u.narrow(1, 0, 1)?, &block.q)?, 1)?;
            let (k, v) = (split(linear(&u, &block.k)?, 1 + n)?, split(linear(&u, &block.v)?, 1 + n)?);
            let probs = softmax(&to_full(&(q * (head as f64).powf(-0.5))?.matmul(&k.t()?)?)?, D::Minus1)?;
            let read = probs.to_dtype(v.dtype())?.matmul(&v)?.transpose(1, 2)?.reshape((b, 1, d))?;
            c = update(&c, &read, block)?;
            maps.push(probs);
        }
        queries.push(c.squeeze(1)?);
    }
    let queries = if queries.len() == 1 { queries.remove(0) } else { Tensor::cat(&queries, 0)? };
    Ok((queries, maps))
}

pub(super) fn linear(x: &Tensor, layer: &Linear) -> Result<Tensor> {
    linear_reference(x, &layer.weight, layer.bias.as_ref())
}

pub(super) fn norm(x: &Tensor, layer: &LayerNorm) -> Result<Tensor> {
    layer_norm_reference(x, &layer.weight, &layer.bias, layer.eps)
}

/// The query after the attention has read `read`, and after the feed-forward half.
pub(super) fn update(c: &Tensor, read: &Tensor, block: &ClassBlock) -> Result<Tensor> {
    let add = |c: &Tensor, branch: Tensor| c + branch.to_dtype(c.dtype())?;
    let c = add(c, linear(read, &block.proj)?)?;
    let hidden = gelu_reference(&linear(&norm(&c, &block.norm2)?, &block.mlp.fc1)?)?;
    add(&c, linear(&hidden, &block.mlp.fc2)?)
}

/// An error unless all shapes fit tokens of width `dim`.
pub(super) fn check(dim: usize, cls: &Tensor, blocks: &[ClassBlock]) -> Result<()> {
    if cls.elem_count() != dim || blocks.is_empty() {
        bail!("class attention of width {dim} needs blocks and a query, not {:?}", cls.dims())
    }
    for block in blocks {
        let hidden = block.mlp.fc1.weight.dim(0)?;
        for (name, layer, shape) in [
            ("attn.q", &block.q, [dim, dim]),
            ("attn.k", &block.k, [dim, dim]),
            ("attn.v", &block.v, [dim, dim]),
            ("attn.proj", &block.proj, [dim, dim]),
            ("mlp.fc1", &block.mlp.fc1, [hidden, dim]),
            ("mlp.fc2", &block.mlp.fc2, [dim, hidden]),
        ] {
            if layer.weight.dims() != shape {
                bail!("{name}: weight {:?} does not fit tokens of width {dim}", layer.weight.dims())
            }
        }
        if block.heads == 0 || !dim.is_multiple_of(block.heads) {
            bail!("class attention over {dim} channels cannot have {} heads", block.heads)
        }
    }
    Ok(())
}

struct ClassAttention {
    blocks: Vec<ClassBlock>,
    sequences: Sequences,
    keep: bool,
    /// Saved values, one entry per block, taken by the backward pass.
    saved: Mutex<Vec<SavedClassBlock>>,
}

impl CustomOp2 for ClassAttention {
    fn name(&self) -> &'static str {
        "class-attention"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout, cls: &CpuStorage, cl: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, cls) = (kernel::slice(x, xl)?, kernel::slice(cls, cl)?);
        let mut c = cls.repeat(self.sequences.count());
        let mut saved = Vec::new();
        for block in &self.blocks {
            let kept = forward(&ClassBlockWeights::of(block)?, x, &self.sequences, &mut c);
            if self.keep {
                saved.push(kept);
            }
        }
        if let (true, Ok(mut slot)) = (self.keep, self.saved.lock()) {
            *slot = saved;
        }
        let shape = Shape::from((self.sequences.count(), cls.len()));
        Ok((CpuStorage::F32(c), shape))
    }

    fn bwd(&self, x: &Tensor, cls: &Tensor, _: &Tensor, dc: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut saved = self.saved.lock().map(|mut slot| std::mem::take(&mut *slot)).unwrap_or_default();
        if saved.len() != self.blocks.len() {
            bail!("the backward pass of class attention can run only once per forward pass")
        }
        let dim = x.dim(1)?;
        let mut dc = View::of(&dc.contiguous()?)?.to_vec();
        let mut dx = vec![0f32; x.elem_count()];
        for (block, saved) in self.blocks.iter().rev().zip(std::iter::from_fn(|| saved.pop())) {
            backward(block, &ClassBlockWeights::of(block)?, saved, &self.sequences, &mut dc, &mut dx)?;
        }
        let dcls = kernel::column_sums(&dc, dim);
        let tensor = |wanted: bool, data, like: &Tensor| {
            wanted.then(|| Tensor::from_vec(data, like.shape(), like.device())).transpose()
        };
        Ok((tensor(x.track_op(), dx, x)?, tensor(cls.track_op(), dcls, cls)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, equal_with_parameters};
    use candle_nn::{Init, VarBuilder};

    #[test]
    fn equals_reference_in_value_and_all_gradients() -> Result<()> {
        for (groups, depth) in [(&[(2, 5)][..], 1), (&[(4, 37), (3, 9)], 2), (&[(3, 1)], 3)] {
            let sequences = Sequences::new(groups);
            let build = |vb: VarBuilder| {
                let cls = vb.get_with_hints((1, 1, 24), "cls", Init::Randn { mean: 0., stdev: 1. })?;
                let blocks: Result<Vec<_>> = (0..depth).map(|i| ClassBlock::new(24, 3, 2, 1e-6, vb.pp(i))).collect();
                Ok((cls, blocks?))
            };
            equal_with_parameters(Case {
                inputs: &[&[sequences.tokens(), 24]],
                build,
                fused: |x: &[Tensor], (cls, blocks): &(Tensor, Vec<ClassBlock>)| {
                    class_attention(&x[0], &sequences, cls, blocks)
                },
                reference: |x: &[Tensor], (cls, blocks): &(Tensor, Vec<ClassBlock>)| {
                    reference(&x[0], &sequences, cls, blocks)
                },
            })?;
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn equals_reference_on_cuda() -> Result<()> {
        use crate::testing::equal_in_every_precision;
        let shapes = [(&[(2, 5)][..], 1, 24, 3), (&[(4, 37), (3, 9)], 2, 24, 2), (&[(3, 1)], 1, 20, 1)];
        for (groups, depth, dim, heads) in shapes {
            let sequences = Sequences::new(groups);
            equal_in_every_precision(Case {
                inputs: &[&[sequences.tokens(), dim]],
                build: |vb: VarBuilder| {
                    let cls = vb.get_with_hints((1, 1, dim), "cls", Init::Randn { mean: 0., stdev: 1. })?;
                    let blocks = (0..depth).map(|i| ClassBlock::new(dim, heads, 2, 1e-6, vb.pp(i)));
                    Ok((cls, blocks.collect::<Result<Vec<_>>>()?))
                },
                fused: |x: &[Tensor], (cls, blocks): &(Tensor, Vec<ClassBlock>)| {
                    class_attention(&x[0], &sequences, cls, blocks)
                },
                reference: |x: &[Tensor], (cls, blocks): &(Tensor, Vec<ClassBlock>)| {
                    reference(&x[0], &sequences, cls, blocks)
                },
            })?;
        }
        Ok(())
    }
}
