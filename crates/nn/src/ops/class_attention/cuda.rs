//! Class attention on CUDA: products by cuBLAS, the reading by one kernel, the rest in the passes that the
//! transformer has too. Queries and tokens are f32; what the products take and give has the type of computation.

use super::kernels::{Context, Projected, Trace, lane_width};
use crate::cuda::{fusible, holds, matmul, record, t};
use crate::ops::attention::cuda::Packed;
use crate::ops::gelu::cuda as gelu;
use crate::ops::layer_norm::branch::Branch;
use crate::ops::layer_norm::cuda::{self as layer_norm, Normed};
use crate::ops::linear::cuda::{branch_gradient, column_sums, residual};
use crate::ops::transformer::cuda::{deposit_linear, norm, norm_backward};
use crate::precision::compute_dtype;
use crate::{ClassBlock, Linear, Sequences, deposit_tensor};
use candle_core::{DType, Result, Tensor};

/// Whether the kernels take `x [T, D]` and these parameters.
pub(in crate::ops) fn applies(x: &Tensor, cls: &Tensor, blocks: &[ClassBlock]) -> Result<bool> {
    let dim = x.dim(1)?;
    let parameters = blocks.iter().flat_map(ClassBlock::parameters);
    Ok(fusible(x)
        && x.elem_count() > 0
        && holds(std::iter::once(cls).chain(parameters))
        && layer_norm::fits(dim)
        && blocks.iter().all(|b| lane_width(dim / b.heads).is_some()))
}

/// A block and its weights in the type of computation.
pub(in crate::ops) struct Weighed {
    block: ClassBlock,
    /// Weight of queries, keys and values, `[3 D, D]`.
    qkv: Tensor,
    proj: Tensor,
    fc1: Tensor,
    fc2: Tensor,
    dtype: DType,
}

/// What the backward pass needs of the half of a block that follows the reading.
struct Fed {
    norm2: Normed,
    /// The product of fc1, without its bias.
    hidden: Tensor,
    /// Input of fc2.
    activated: Tensor,
}

/// What the backward pass needs of one block.
struct SavedLayer {
    weighed: Weighed,
    tokens: Normed,
    queries: Normed,
    projected: Projected,
    out: Tensor,
    trace: Trace,
    fed: Fed,
}

/// Class attention of `x [T, D]` -> the query of each sequence, `[S, D]` f32.
pub(super) fn class_attention(
    x: &Tensor,
    anchor: &Tensor,
    sequences: &Sequences,
    cls: &Tensor,
    blocks: &[ClassBlock],
) -> Result<Tensor> {
    let (dtype, device, count) = (compute_dtype(x), x.device(), sequences.count());
    let packed = Packed::new(sequences, device)?;
    let keep = x.track_op() || anchor.track_op();
    let tokens = x.detach().to_dtype(DType::F32)?.contiguous()?;
    let dim = tokens.dim(1)?;
    let (mut c, mut branch) = (cls.detach().reshape((1, dim))?.broadcast_as((count, dim))?.contiguous()?, None);
    let mut kept = Vec::new();
    for block in blocks {
        let weighed = Weighed::new(block, dtype)?;
        let tokens = norm(&tokens, None, &block.norm1, dtype)?;
        let queries = norm(&c, branch.as_ref(), &block.norm1, dtype)?;
        let projected = weighed.project(&tokens, &queries)?;
        let (out, trace) = projected.read(&Context::Sequences(&packed), count, keep)?;
        let (fed, next) = weighed.feed(&queries.x, &out)?;
        (c, branch) = (fed.norm2.x.clone(), Some(next));
        kept.extend(trace.map(|trace| SavedLayer { weighed, tokens, queries, projected, out, trace, fed }));
    }
    let c = match &branch {
        Some(branch) => residual(&c, branch)?,
        None => c,
    };
    let (input, cls) = (x.clone(), cls.clone());
    record(x, anchor, c, move |dc| {
        let dc = dc.copy()?; // updated in place, as dx is
        let dx = Tensor::zeros(tokens.shape(), DType::F32, tokens.device())?;
        while let Some(saved) = kept.pop() {
            saved.backward(&packed, &dc, &dx)?;
        }
        deposit_tensor(&cls, || column_sums(&dc))?;
        input.track_op().then(|| dx.to_dtype(input.dtype())).transpose()
    })
}

impl Weighed {
    pub(in crate::ops) fn new(block: &ClassBlock, dtype: DType) -> Result<Self> {
        let cast = |layer: &Linear| layer.weight.detach().to_dtype(dtype);
        let qkv = Tensor::cat(&[cast(&block.q)?, cast(&block.k)?, cast(&block.v)?], 0)?;
        let (proj, fc1, fc2) = (cast(&block.proj)?, cast(&block.mlp.fc1)?, cast(&block.mlp.fc2)?);
        Ok(Self { block: block.clone(), qkv, proj, fc1, fc2, dtype })
    }

    /// Weights of keys and values, `[2 D, D]`.
    fn kv(&self) -> Result<Tensor> {
        let dim = self.qkv.dim(1)?;
        self.qkv.narrow(0, dim, 2 * dim)
    }

    /// Projections of the normalised tokens and queries.
    pub(in crate::ops) fn project(&self, tokens: &Normed, queries: &Normed) -> Result<Projected> {
        let bias = |layer: &Linear| layer.bias.as_ref().map(Tensor::detach);
        Ok(Projected {
            own: matmul(&queries.out, t(&self.qkv), self.dtype)?,
            kv: matmul(&tokens.out, t(&self.kv()?), self.dtype)?,
            biases: [bias(&self.block.q), bias(&self.block.v)],
            heads: self.block.heads,
        })
    }

    /// The queries `c` after they have read `out`; the branch of the feed-forward half is still to be added.
    fn feed(&self, c: &Tensor, out: &Tensor) -> Result<(Fed, Branch)> {
        let (block, mlp) = (&self.block, &self.block.mlp);
        let branch = |values: Tensor, layer: &Linear| Branch {
            values,
            bias: layer.bias.as_ref().map(Tensor::detach),
            scale: None,
        };
        let attended = branch(matmul(out, t(&self.proj), self.dtype)?, &block.proj);
        let norm2 = norm(c, Some(&attended), &block.norm2, self.dtype)?;
        let hidden = matmul(&norm2.out, t(&self.fc1), self.dtype)?;
        let activated = gelu::forward(&hidden, mlp.fc1.bias.as_ref())?;
        let branch = branch(matmul(&activated, t(&self.fc2), self.dtype)?, &mlp.fc2);
        Ok((Fed { norm2, hidden, activated }, branch))
    }

    /// [`Weighed::feed`] without a backward pass.
    pub(in crate::ops) fn fed(&self, c: &Tensor, out: &Tensor) -> Result<(Tensor, Branch)> {
        self.feed(c, out).map(|(fed, branch)| (fed.norm2.x, branch))
    }
}

impl SavedLayer {
    /// Takes `dc [S, D]` from the block's output to its input and adds to `dx [T, D]`; f32, in place.
    fn backward(self, packed: &Packed, dc: &Tensor, dx: &Tensor) -> Result<()> {
        let SavedLayer { weighed, tokens, queries, projected, out, trace, fed: Fed { norm2, hidden, activated } } =
            self;
        let (block, mlp, dtype) = (&weighed.block, &weighed.block.mlp, weighed.dtype);
        let dy = branch_gradient(dc, None, dtype)?;
        let dhidden = gelu::backward(&hidden, mlp.fc1.bias.as_ref(), &matmul(&dy, &weighed.fc2, dtype)?)?;
        deposit_linear(&mlp.fc2, &dy, &activated)?;
        deposit_linear(&mlp.fc1, &dhidden, &norm2.out)?;
        norm_backward(&matmul(&dhidden, &weighed.fc1, dtype)?, &norm2, &block.norm2, dc)?;

        let dy = branch_gradient(dc, None, dtype)?;
        deposit_linear(&block.proj, &dy, &out)?;
        let dout = matmul(&dy, &weighed.proj, dtype)?;
        let (down, dkv) = projected.read_backward(packed, &trace, &dout)?;
        deposit_projections(block, (&down, &queries.out), (&dkv, &tokens.out), &dout)?;
        norm_backward(&matmul(&down, &weighed.qkv, dtype)?, &queries, &block.norm1, dc)?;
        norm_backward(&matmul(&dkv, &weighed.kv()?, dtype)?, &tokens, &block.norm1, dx)
    }
}

/// Deposits the gradients of the layers q, k and v, given those of their outputs with their inputs, of the queries'
/// own rows `[S, 3 D]` and of the tokens `[T, 2 D]`, and that of what was read.
fn deposit_projections(
    block: &ClassBlock,
    (down, queries): (&Tensor, &Tensor),
    (dkv, tokens): (&Tensor, &Tensor),
    dout: &Tensor,
) -> Result<()> {
    let dim = queries.dim(1)?;
    let (own, of_tokens) = (matmul(t(down), queries, DType::F32)?, matmul(t(dkv), tokens, DType::F32)?);
    deposit_tensor(&block.q.weight, || own.narrow(0, 0, dim))?;
    for (i, layer) in [&block.k, &block.v].into_iter().enumerate() {
        deposit_tensor(&layer.weight, || own.narrow(0, (1 + i) * dim, dim)? + of_tokens.narrow(0, i * dim, dim)?)?;
    }
    if let Some(bias) = &block.q.bias {
        deposit_tensor(bias, || column_sums(down)?.narrow(0, 0, dim))?;
    }
    if let Some(bias) = &block.k.bias {
        // The softmax does not see it.
        deposit_tensor(bias, || Tensor::zeros(dim, DType::F32, dout.device()))?;
    }
    match &block.v.bias {
        Some(bias) => deposit_tensor(bias, || column_sums(dout)), // the weights of what is read sum to 1
        None => Ok(()),
    }
}
