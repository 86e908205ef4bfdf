//! The kernels of one transformer block, forward and backward; see [`super::transformer`].

use super::layer_norm::norm::Norm;
use super::linear::affine::Affine;
use super::{attention, gelu};
use crate::kernel::{Buffer, row_block};
use crate::{Block, Sequences, Survival};
use candle_core::Result;
use rayon::prelude::*;
use selfpatch_simd::wide;
use std::borrow::Cow;
use std::ops::Range;

/// All parameters of a block, borrowed.
pub(super) struct BlockWeights<'a> {
    norm1: Norm<'a>,
    qkv: Affine<'a>,
    proj: Affine<'a>,
    norm2: Norm<'a>,
    fc1: Affine<'a>,
    fc2: Affine<'a>,
    heads: usize,
}

impl<'a> BlockWeights<'a> {
    /// Weights prepared for a forward pass of `rows` rows.
    pub(super) fn forward_of(block: &'a Block, rows: usize) -> Result<Self> {
        Ok(Self {
            norm1: Norm::of(&block.norm1)?,
            qkv: Affine::forward_of(&block.qkv, rows)?,
            proj: Affine::forward_of(&block.proj, rows)?,
            norm2: Norm::of(&block.norm2)?,
            fc1: Affine::forward_of(&block.mlp.fc1, rows)?,
            fc2: Affine::forward_of(&block.mlp.fc2, rows)?,
            heads: block.heads,
        })
    }

    pub(super) fn of(block: &'a Block) -> Result<Self> {
        Ok(Self {
            norm1: Norm::of(&block.norm1)?,
            qkv: Affine::of(&block.qkv)?,
            proj: Affine::of(&block.proj)?,
            norm2: Norm::of(&block.norm2)?,
            fc1: Affine::of(&block.mlp.fc1)?,
            fc2: Affine::of(&block.mlp.fc2)?,
            heads: block.heads,
        })
    }
}

/// What the backward pass of a block needs; rows of the sequences that keep the branch, packed.
pub(super) struct SavedBlock {
    attention: SavedAttention,
    mlp: SavedMlp,
}

struct SavedAttention {
    norm: SavedNorm,
    qkv: Buffer,
    probs: Buffer,
    /// Output of the attention, before the projection.
    out: Buffer,
}

struct SavedMlp {
    norm: SavedNorm,
    /// Values before GELU; `active` has those after it.
    hidden: Buffer,
    active: Buffer,
}

/// Normalised rows and the reciprocals of their standard deviations.
struct SavedNorm {
    hat: Buffer,
    inv: Buffer,
}

/// The sequences that take part in one residual branch.
struct Branch<'a> {
    /// The kept sequences alone, packed.
    sequences: Cow<'a, Sequences>,
    /// Rows of the kept sequences among all.
    rows: Vec<Range<usize>>,
    scale: f32,
    /// Whether all sequences take part, unscaled.
    whole: bool,
    /// Tokens of all sequences: what memory is taken for.
    most: usize,
    /// Sum of the squares of all lengths.
    most_probabilities: usize,
}

impl<'a> Branch<'a> {
    fn new(all: &'a Sequences, survival: Option<&Survival>) -> Self {
        let (most, most_probabilities) = (all.tokens(), attention::probabilities(all, 1));
        let Some(survival) = survival else {
            let rows = all.rows().collect();
            return Self { sequences: Cow::Borrowed(all), rows, scale: 1., whole: true, most, most_probabilities };
        };
        let rows: Vec<_> = all.rows().zip(&survival.alive).filter(|(_, alive)| **alive).map(|(r, _)| r).collect();
        let groups: Vec<_> = rows.iter().map(|r| (1, r.len())).collect();
        let sequences = Cow::Owned(Sequences::new(&groups));
        Self { sequences, rows, scale: survival.scale as f32, whole: false, most, most_probabilities }
    }

    /// Memory for `width` values per token that takes part.
    fn room(&self, width: usize) -> Buffer {
        Buffer::within(self.sequences.tokens() * width, self.most * width)
    }

    /// The parts of all rows `x` that take part.
    fn pick<'x>(&self, x: &'x [f32], width: usize) -> Vec<&'x [f32]> {
        self.rows.iter().map(|r| &x[r.start * width..r.end * width]).collect()
    }

    fn pick_mut<'x>(&self, mut x: &'x mut [f32], width: usize) -> Vec<&'x mut [f32]> {
        let mut at = 0;
        self.rows
            .iter()
            .map(|r| {
                let (_, rest) = std::mem::take(&mut x).split_at_mut((r.start - at) * width);
                let (part, rest) = rest.split_at_mut(r.len() * width);
                (x, at) = (rest, r.end);
                part
            })
            .collect()
    }

    /// Normalises the rows that take part: `(y, what to keep)`.
    fn normalise(&self, norm: &Norm, x: &[f32], keep: bool) -> (Buffer, Option<SavedNorm>) {
        let n = norm.width();
        let mut y = self.room(n);
        let parts = self.pick(x, n).into_par_iter().zip(self.sequences.cut_mut(&mut y, n));
        if !keep {
            parts.for_each(|(x, y)| norm.rows(x, None, y));
            return (y, None);
        }
        let mut saved = SavedNorm { hat: self.room(n), inv: self.room(1) };
        let kept =
            self.sequences.cut_mut(&mut saved.hat, n).into_par_iter().zip(self.sequences.cut_mut(&mut saved.inv, 1));
        parts.zip(kept).for_each(|((x, y), kept)| norm.rows(x, Some(kept), y));
        (y, Some(saved))
    }

    /// `x += scale * (y + bias)` for the rows that take part.
    fn add_to(&self, x: &mut [f32], y: &[f32], bias: &[f32]) {
        let (n, scale) = (bias.len(), self.scale);
        self.pick_mut(x, n).into_par_iter().zip(self.sequences.cut(y, n)).for_each(|(x, y)| {
            wide!({
                for (x, y) in x.chunks_exact_mut(n).zip(y.chunks_exact(n)) {
                    for ((x, y), b) in x.iter_mut().zip(y).zip(bias) {
                        *x += scale * (y + b);
                    }
                }
            });
        });
    }

    /// The gradient of the branch, given that of the sum it was added to.
    fn gradient<'x>(&self, dx: &'x [f32], n: usize, room: &'x mut Option<Buffer>) -> &'x [f32] {
        if self.whole {
            return dx;
        }
        let dy = room.insert(self.room(n));
        let scale = self.scale;
        self.sequences.cut_mut(dy, n).into_par_iter().zip(self.pick(dx, n)).for_each(|(dy, dx)| {
            dy.iter_mut().zip(dx).for_each(|(dy, dx)| *dy = scale * dx);
        });
        dy
    }

    /// Backward through the norm at the start of the branch: adds to `dx`, deposits the norm's own.
    fn normalise_backward(
        &self,
        (norm, layer): (&Norm, &crate::LayerNorm),
        saved: &SavedNorm,
        dy: &[f32],
        dx: &mut [f32],
    ) -> Result<()> {
        let n = norm.width();
        let saved = self.sequences.cut(&saved.hat, n).into_par_iter().zip(self.sequences.cut(&saved.inv, 1));
        let sums = self
            .pick_mut(dx, n)
            .into_par_iter()
            .zip(self.sequences.cut(dy, n))
            .zip(saved)
            .map(|((dx, dy), (hat, inv))| norm.rows_backward(hat, inv, dy, dx))
            .collect();
        norm.deposit(layer, sums)
    }
}

/// One block over packed rows `x`, in place.
pub(super) fn forward(
    w: &BlockWeights,
    x: &mut [f32],
    sequences: &Sequences,
    survival: [Option<&Survival>; 2],
    keep: bool,
) -> Option<SavedBlock> {
    let attention = attention_forward(w, x, &Branch::new(sequences, survival[0]), keep);
    let mlp = mlp_forward(w, x, &Branch::new(sequences, survival[1]), keep);
    Some(SavedBlock { attention: attention?, mlp: mlp? })
}

fn attention_forward(w: &BlockWeights, x: &mut [f32], branch: &Branch, keep: bool) -> Option<SavedAttention> {
    let sequences = &*branch.sequences;
    let (y, norm) = branch.normalise(&w.norm1, x, keep);
    let n = w.norm1.width();
    let mut qkv = branch.room(3 * n);
    w.qkv.forward(&y, &mut qkv);
    let most = branch.most_probabilities * w.heads;
    let mut probs = keep.then(|| Buffer::within(attention::probabilities(sequences, w.heads), most));
    let mut out = branch.room(n);
    attention::forward(&qkv, sequences, w.heads, probs.as_deref_mut(), &mut out);
    let mut projected = y; // no longer needed
    w.proj.forward_unbiased(&out, &mut projected);
    branch.add_to(x, &projected, &w.proj.bias());
    Some(SavedAttention { norm: norm?, qkv, probs: probs?, out })
}

fn mlp_forward(w: &BlockWeights, x: &mut [f32], branch: &Branch, keep: bool) -> Option<SavedMlp> {
    let (tokens, n, wide) = (branch.sequences.tokens(), w.norm2.width(), w.fc1.outputs());
    let (mut y, norm) = branch.normalise(&w.norm2, x, keep);
    let (mut hidden, mut active) = (branch.room(wide), branch.room(wide));
    let block = row_block(tokens);
    let rows = y.par_chunks_mut((block * n).max(1));
    let hiddens = hidden.par_chunks_mut((block * wide).max(1)).zip(active.par_chunks_mut((block * wide).max(1)));
    let bias = w.fc1.bias();
    rows.zip(hiddens).for_each(|(y, (hidden, active))| {
        w.fc1.product(y, hidden);
        gelu::forward_biased(hidden, &bias, active);
        w.fc2.product(active, y);
    });
    branch.add_to(x, &y, &w.fc2.bias());
    Some(SavedMlp { norm: norm?, hidden, active })
}

/// Turns the gradient of a block's output into that of its input, in place, and deposits those of
/// its parameters.
pub(super) fn backward(
    block: &Block,
    w: &BlockWeights,
    saved: SavedBlock,
    dx: &mut [f32],
    sequences: &Sequences,
    survival: [Option<&Survival>; 2],
) -> Result<()> {
    mlp_backward(block, w, saved.mlp, dx, &Branch::new(sequences, survival[1]))?;
    attention_backward(block, w, saved.attention, dx, &Branch::new(sequences, survival[0]))
}

fn mlp_backward(block: &Block, w: &BlockWeights, saved: SavedMlp, dx: &mut [f32], branch: &Branch) -> Result<()> {
    let (tokens, n, wide) = (branch.sequences.tokens(), w.norm2.width(), w.fc1.outputs());
    let SavedMlp { norm, hidden, active } = saved;
    let mut y = branch.room(n);
    {
        let mut room = None;
        let dout = branch.gradient(dx, n, &mut room);
        let mut dhidden = branch.room(wide);
        let rows = row_block(tokens);
        let (narrow, full) = ((rows * n).max(1), (rows * wide).max(1));
        let outputs = dhidden.par_chunks_mut(full).zip(y.par_chunks_mut(narrow));
        let inputs = dout.par_chunks(narrow).zip(hidden.par_chunks(full).zip(active.par_chunks(full)));
        // y holds the normalised rows for the gradient of fc1, recomputed here while there is room.
        let normalised = norm.hat.par_chunks(narrow);
        outputs.zip(inputs).zip(normalised).for_each(|(((dhidden, y), (dout, (hidden, active))), hat)| {
            w.fc2.product_backward(dout, dhidden);
            gelu::backward(hidden, active, dhidden);
            w.norm2.rows_again(hat, y);
        });
        w.fc2.deposit(&block.mlp.fc2, dout, &active)?;
        w.fc1.deposit(&block.mlp.fc1, &dhidden, &y)?;
        w.fc1.backward(&dhidden, &mut y);
    }
    branch.normalise_backward((&w.norm2, &block.norm2), &norm, &y, dx)
}

fn attention_backward(
    block: &Block,
    w: &BlockWeights,
    saved: SavedAttention,
    dx: &mut [f32],
    branch: &Branch,
) -> Result<()> {
    let (sequences, n) = (&*branch.sequences, w.norm1.width());
    let SavedAttention { norm, qkv, probs, out } = saved;
    let mut y = branch.room(n);
    {
        let mut room = None;
        let dprojected = branch.gradient(dx, n, &mut room);
        // Until the gradient of qkv is known, y holds the gradient of the heads' outputs.
        w.proj.backward(dprojected, &mut y);
        w.proj.deposit(&block.proj, dprojected, &out)?;
    }
    let mut dqkv = branch.room(3 * n);
    attention::backward((&qkv, &probs), sequences, w.heads, &y, &mut dqkv);
    drop((qkv, probs, out));
    sequences
        .cut_mut(&mut y, n)
        .into_par_iter()
        .zip(sequences.cut(&norm.hat, n))
        .for_each(|(y, hat)| w.norm1.rows_again(hat, y));
    w.qkv.deposit(&block.qkv, &dqkv, &y)?;
    w.qkv.backward(&dqkv, &mut y);
    branch.normalise_backward((&w.norm1, &block.norm1), &norm, &y, dx)
}
