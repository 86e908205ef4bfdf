//! A stack of pre-norm transformer blocks over packed sequences: for each block
//! `x += attn(norm1(x))`, then `x += mlp(norm2(x))`.
//!
//! One op for the whole stack: `x` is updated in place from block to block, each pass over memory
//! does as much as it can, and the backward pass writes straight into the gradients of the
//! parameters. With stochastic depth a branch is computed only for the sequences that keep it.

#[cfg(feature = "cuda")]
pub(super) mod cuda;
mod pass;

use super::anchor::anchor;
use super::transformer_block::{BlockWeights, SavedBlock, backward as block_backward, forward as block_forward};
use super::{attention, linear_reference};
use crate::kernel::{self, Buffer, View};
use crate::{Block, Sequences, Survival};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
pub use pass::{Activations, Survivals};
use std::sync::Mutex;

/// `x [T, D]` through `blocks`, one after the other -> `[T, D]`.
pub fn transformer(
    x: &Tensor,
    sequences: &Sequences,
    blocks: &[Block],
    survivals: Option<&Survivals>,
    activations: Activations,
) -> Result<Tensor> {
    let (rows, dim) = x.dims2()?;
    sequences.check(rows)?;
    for block in blocks {
        block.check(dim)?;
    }
    if survivals.is_some_and(|s| {
        s.len() != blocks.len() || !s.iter().flatten().flatten().all(|s| s.alive.len() == sequences.count())
    }) {
        bail!("stochastic depth must be drawn for {} blocks and {} sequences", blocks.len(), sequences.count())
    }
    let Some(anchor) = anchor(blocks.iter().flat_map(Block::parameters)) else { return Ok(x.clone()) };
    #[cfg(feature = "cuda")]
    if crate::cuda::fusible(x)
        && crate::cuda::holds(blocks.iter().flat_map(Block::parameters))
        && cuda::fits(dim, blocks)
    {
        return cuda::transformer(x, anchor, sequences, blocks, survivals, activations);
    }
    if !kernel::fusible(x) {
        return reference(x, sequences, blocks, survivals);
    }
    let x = x.contiguous()?;
    let mut op = Transformer {
        blocks: blocks.to_vec(),
        sequences: sequences.clone(),
        survivals: survivals.cloned(),
        saves: None,
        saved: Mutex::new(Vec::new()),
    };
    if x.track_op() || anchor.track_op() {
        op.saves = Some(activations);
        x.apply_op2(anchor, op)
    } else {
        x.apply_op2_no_bwd(anchor, &op)
    }
}

/// Transformer blocks from candle's own ops.
pub fn reference(x: &Tensor, sequences: &Sequences, blocks: &[Block], survivals: Option<&Survivals>) -> Result<Tensor> {
    use super::{attention_reference, gelu_reference, layer_norm_reference};
    let linear = |x: &Tensor, l: &crate::Linear| linear_reference(x, &l.weight, l.bias.as_ref());
    let norm = |x: &Tensor, n: &crate::LayerNorm| layer_norm_reference(x, &n.weight, &n.bias, n.eps);
    let mut x = x.clone();
    for (i, block) in blocks.iter().enumerate() {
        let add = |x: &Tensor, branch: Tensor, which: usize| match survivals.and_then(|s| s[i][which].as_ref()) {
            None => x + branch.to_dtype(x.dtype())?,
            Some(survival) => x + dropped(&branch, sequences, survival)?.to_dtype(x.dtype())?,
        };
        let qkv = linear(&norm(&x, &block.norm1)?, &block.qkv)?;
        x = add(&x, linear(&attention_reference(&qkv, sequences, block.heads)?, &block.proj)?, 0)?;
        let hidden = gelu_reference(&linear(&norm(&x, &block.norm2)?, &block.mlp.fc1)?)?;
        x = add(&x, linear(&hidden, &block.mlp.fc2)?, 1)?;
    }
    Ok(x)
}

/// A packed branch as [`Survival::apply`] leaves it.
fn dropped(branch: &Tensor, sequences: &Sequences, survival: &Survival) -> Result<Tensor> {
    let mut first = 0;
    let groups = sequences.split(branch)?;
    let groups = groups.iter().map(|group| {
        let count = group.dim(0)?;
        let alive = survival.alive[first..first + count].to_vec();
        first += count;
        Survival { alive, scale: survival.scale }.apply(group)
    });
    Sequences::join(&groups.collect::<Result<Vec<_>>>()?)
}

impl Block {
    /// An error unless all shapes fit tokens of width `dim`.
    fn check(&self, dim: usize) -> Result<()> {
        let hidden = self.mlp.fc1.weight.dim(0)?;
        for (name, layer, shape) in [
            ("attn.qkv", &self.qkv, [3 * dim, dim]),
            ("attn.proj", &self.proj, [dim, dim]),
            ("mlp.fc1", &self.mlp.fc1, [hidden, dim]),
            ("mlp.fc2", &self.mlp.fc2, [dim, hidden]),
        ] {
            if layer.weight.dims() != shape || layer.bias.as_ref().is_some_and(|b| b.dims() != [shape[0]]) {
                bail!("{name}: weight {:?} does not fit tokens of width {dim}", layer.weight.dims())
            }
        }
        if self.norm1.weight.dims() != [dim] || self.norm2.weight.dims() != [dim] {
            bail!("norm1, norm2: do not fit tokens of width {dim}")
        }
        if self.heads == 0 || !dim.is_multiple_of(self.heads) {
            bail!("attention over {dim} channels cannot have {} heads", self.heads)
        }
        Ok(())
    }
}

struct Transformer {
    blocks: Vec<Block>,
    sequences: Sequences,
    survivals: Option<Survivals>,
    /// Activations to save; `None` if there will be no backward pass.
    saves: Option<Activations>,
    /// Saved values, one entry per block, taken by the backward pass.
    saved: Mutex<Vec<KeptBlock>>,
}

enum KeptBlock {
    All(Box<SavedBlock>),
    Input(Buffer),
}

impl Transformer {
    fn survival(&self, block: usize) -> [Option<&Survival>; 2] {
        match &self.survivals {
            Some(s) => [s[block][0].as_ref(), s[block][1].as_ref()],
            None => [None, None],
        }
    }

    fn forward(&self, x: &mut [f32]) -> Result<Vec<KeptBlock>> {
        let mut all = Vec::new();
        for (i, block) in self.blocks.iter().enumerate() {
            let weights = BlockWeights::forward_of(block, self.sequences.tokens())?;
            let run = |x: &mut [f32], keep| block_forward(&weights, x, &self.sequences, self.survival(i), keep);
            match self.saves {
                None => {
                    run(x, false);
                }
                Some(Activations::Keep) => all.extend(run(x, true).map(|saved| KeptBlock::All(Box::new(saved)))),
                Some(Activations::Recompute) => {
                    let mut input = Buffer::stale(x.len());
                    input.copy_from_slice(x);
                    all.push(KeptBlock::Input(input));
                    run(x, false);
                }
            }
        }
        Ok(all)
    }
}

impl CustomOp2 for Transformer {
    fn name(&self) -> &'static str {
        "transformer"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut x = kernel::slice(x, layout)?.to_vec();
        let saved = self.forward(&mut x)?;
        if let Ok(mut slot) = self.saved.lock() {
            *slot = saved;
        }
        Ok((CpuStorage::F32(x), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut saved = self.saved.lock().map(|mut slot| std::mem::take(&mut *slot)).unwrap_or_default();
        if saved.len() != self.blocks.len() {
            bail!("the backward pass of a transformer can run only once per forward pass")
        }
        let mut dx = View::of(&dy.contiguous()?)?.to_vec();
        for (i, block) in self.blocks.iter().enumerate().rev() {
            let weights = BlockWeights::of(block)?;
            let activations = match saved.pop() {
                Some(KeptBlock::All(activations)) => *activations,
                Some(KeptBlock::Input(mut input)) => {
                    let weights = BlockWeights::forward_of(block, self.sequences.tokens())?;
                    match block_forward(&weights, &mut input, &self.sequences, self.survival(i), true) {
                        Some(activations) => activations,
                        None => bail!("a block kept nothing"),
                    }
                }
                None => bail!("a block kept nothing"),
            };
            block_backward(block, &weights, activations, &mut dx, &self.sequences, self.survival(i))?;
        }
        Ok((x.track_op().then(|| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?, None))
    }
}

/// Attention probabilities `[B, heads, N, N]` of `block` for its input `x [B, N, D]`.
pub fn block_attention(block: &Block, x: &Tensor) -> Result<Tensor> {
    attention::attention_probs(&block.qkv.forward(&block.norm1.forward(x)?)?, block.heads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Params, backward, random::normal};
    use candle_core::{DType, Device, Var};

    fn blocks(params: &Params, dtype: DType, n: usize) -> Result<Vec<Block>> {
        let vb = params.builder(dtype, &Device::Cpu);
        let blocks = (0..n).map(|i| Block::new(24, 3, 40, true, 1e-6, vb.pp(i))).collect::<Result<Vec<_>>>()?;
        for (i, (_, var)) in params.iter().enumerate() {
            // away from the initial zeros and ones
            let noise = (normal(i as u64, var.shape())? * 0.3)?.to_dtype(dtype)?;
            var.set(&(var.as_tensor() + noise)?.detach())?;
        }
        Ok(blocks)
    }

    fn survivals(sequences: &Sequences, n: usize) -> Survivals {
        let draw = |i: usize| {
            let u: Vec<f32> = (0..sequences.count()).map(|j| ((i * 7 + j * 3) % 10) as f32 / 10.).collect();
            Some(Survival::new(0.4, &u))
        };
        (0..n).map(|i| if i == 0 { [None, draw(0)] } else { [draw(i), draw(i + 5)] }).collect()
    }

    /// Output and all gradients.
    fn run(params: &Params, x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Vec<Tensor>> {
        let x = Var::from_tensor(x)?;
        let y = f(&x)?;
        let weights: Vec<f64> = (0..y.elem_count()).map(|i| ((i * 37 % 101) as f64 - 50.0) / 50.0).collect();
        let weights = Tensor::from_vec(weights, y.shape(), &Device::Cpu)?.to_dtype(y.dtype())?;
        let grads = backward(&(&y * weights)?.sum_all()?)?;
        let mut all = vec![y.to_dtype(DType::F64)?];
        for t in std::iter::once(x).chain(params.iter().map(|(_, v)| v)) {
            match grads.get(&t) {
                Some(g) => all.push(g.to_dtype(DType::F64)?),
                None => bail!("a parameter got no gradient"),
            }
        }
        Ok(all)
    }

    #[test]
    fn equals_reference_in_value_and_all_gradients() -> Result<()> {
        for (groups, depth, dropping) in [
            (&[(2, 5)][..], 1, false),
            (&[(4, 37), (3, 9)], 2, false),
            (&[(4, 37), (3, 9)], 3, true),
            (&[(6, 1)], 2, true),
        ] {
            let sequences = Sequences::new(groups);
            let survivals = dropping.then(|| survivals(&sequences, depth));
            let survivals = survivals.as_ref();
            let x = normal(9, (sequences.tokens(), 24))?;
            let (p32, p64) = (Params::trainable(1), Params::trainable(1));
            let (b32, b64) = (blocks(&p32, DType::F32, depth)?, blocks(&p64, DType::F64, depth)?);
            let want = run(&p64, &x.to_dtype(DType::F64)?, |x| reference(x, &sequences, &b64, survivals))?;
            for activations in [Activations::Keep, Activations::Recompute] {
                let got = run(&p32, &x, |x| transformer(x, &sequences, &b32, survivals, activations))?;
                for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                    let error = (got - want)?.abs()?.max_all()?.to_scalar::<f64>()?;
                    let size = want.abs()?.max_all()?.to_scalar::<f64>()?.max(1.0);
                    // f32 through up to three blocks
                    assert!(error <= 1e-5 * size, "{groups:?}, tensor {i}: error {error:e} of {size:e}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() -> Result<()> {
        let sequences = Sequences::new(&[(3, 196), (5, 36)]);
        let survivals = survivals(&sequences, 2);
        let x = normal(9, (sequences.tokens(), 24))?;
        let params = Params::trainable(1);
        let blocks = blocks(&params, DType::F32, 2)?;
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                run(&params, &x, |x| transformer(x, &sequences, &blocks, Some(&survivals), Activations::Keep))
            })
        };
        let one = on(1)?;
        for threads in [2, 3] {
            for (a, b) in one.iter().zip(on(threads)?) {
                assert_eq!(a.flatten_all()?.to_vec1::<f64>()?, b.flatten_all()?.to_vec1::<f64>()?);
            }
        }
        Ok(())
    }

    #[test]
    fn a_branch_that_every_sequence_drops_does_nothing() -> Result<()> {
        let sequences = Sequences::new(&[(2, 30), (1, 4)]);
        let none = || Some(Survival { alive: vec![false; 3], scale: 2. });
        let survivals = vec![[none(), none()], [none(), None]];
        let x = normal(9, (64, 24))?;
        let (p32, p64) = (Params::trainable(1), Params::trainable(1));
        let (b32, b64) = (blocks(&p32, DType::F32, 2)?, blocks(&p64, DType::F64, 2)?);
        for activations in [Activations::Keep, Activations::Recompute] {
            let got = run(&p32, &x, |x| transformer(x, &sequences, &b32, Some(&survivals), activations))?;
            let want = run(&p64, &x.to_dtype(DType::F64)?, |x| reference(x, &sequences, &b64, Some(&survivals)))?;
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want)?.abs()?.max_all()?.to_scalar::<f64>()? < 1e-4); // sums of 64 rows
            }
        }
        Ok(())
    }

    #[test]
    fn parameters_train_beside_frozen_ones() -> Result<()> {
        let (frozen, trained) = (Params::frozen(1), Params::trainable(1));
        let mut both = blocks(&frozen, DType::F32, 1)?;
        both.extend(blocks(&trained, DType::F32, 1)?);
        let x = normal(9, (8, 24))?;
        let y = transformer(&x, &Sequences::new(&[(2, 4)]), &both, None, Activations::Keep)?;
        let grads = backward(&y.sqr()?.sum_all()?)?;
        assert!(trained.iter().all(|(_, var)| grads.contains(&var)));
        assert!(frozen.iter().all(|(_, var)| !grads.contains(&var)));
        Ok(())
    }

    #[test]
    fn without_gradient_equals_with() -> Result<()> {
        let sequences = Sequences::new(&[(2, 30)]);
        let x = normal(9, (60, 24))?;
        let (trained, frozen) = (Params::trainable(1), Params::frozen(1));
        let run = |p: &Params| {
            transformer(&x, &sequences, &blocks(p, DType::F32, 2)?, None, Activations::Keep)?.to_vec2::<f32>()
        };
        assert_eq!(run(&trained)?, run(&frozen)?);
        Ok(())
    }

    #[test]
    fn plain_backward_is_refused_with_advice() -> Result<()> {
        let params = Params::trainable(1);
        let blocks = blocks(&params, DType::F32, 1)?;
        let x = normal(9, (4, 24))?;
        let y = transformer(&x, &Sequences::new(&[(1, 4)]), &blocks, None, Activations::Keep)?;
        let error = y.sum_all()?.backward().unwrap_err().to_string();
        assert!(error.contains("selfpatch_nn::backward"), "{error}");
        Ok(())
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn cuda_equals_reference() -> Result<()> {
        use crate::testing::{Case, equal_in_every_precision};
        for (dim, heads, groups, dropping) in
            [(24, 3, &[(2, 5)][..], false), (64, 2, &[(3, 37), (2, 9)], true), (64, 1, &[(1, 66)], false)]
        {
            let sequences = Sequences::new(groups);
            let survivals = dropping.then(|| survivals(&sequences, 2));
            for activations in [Activations::Keep, Activations::Recompute] {
                equal_in_every_precision(Case {
                    inputs: &[&[sequences.tokens(), dim]],
                    build: |vb: candle_nn::VarBuilder| {
                        (0..2).map(|i| Block::new(dim, heads, 40, true, 1e-6, vb.pp(i))).collect()
                    },
                    fused: |x: &[Tensor], blocks: &Vec<Block>| {
                        transformer(&x[0], &sequences, blocks, survivals.as_ref(), activations)
                    },
                    reference: |x: &[Tensor], blocks: &Vec<Block>| {
                        reference(&x[0], &sequences, blocks, survivals.as_ref())
                    },
                })?;
            }
        }
        Ok(())
    }
}
