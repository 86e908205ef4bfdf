//! How much arithmetic a step takes, by hand count: the floor of its time.

use crate::Config;

/// Number and side of the crops of one batch, per crop size.
pub fn crops(config: &Config) -> Vec<(usize, usize)> {
    let views = [config.crops.globals.len(), config.crops.local_count];
    views.into_iter().map(|v| v * config.optim.batch_size).zip(config.crop_sizes()).filter(|c| c.0 > 0).collect()
}

/// FLOPs of one step: `4 F + A`. `F` is one forward pass of what both networks do (the teacher once;
/// the student once, and twice that backward), `A` the aggregation of patches, done by the teacher
/// alone.
///
/// With `V` crops (all images), crop `i` having `n_i` patches and `T` being the sum of `n_i`; width
/// `D`, `d` blocks, `L` class blocks, patches of `p^2` pixels; heads of hidden width `H`, bottleneck
/// `b` and `K` or `P` prototypes:
/// - backbone: `T (6 p^2 D + 24 d D^2) + 4 d D sum(n_i^2)`
/// - class tokens: `L (4 (T + V) D^2 + 20 V D^2 + 4 (T + V) D)`
/// - heads: `2 (T + V) (D H + H^2 + H b) + 2 b (V K + T P)`
/// - `A = (28 L - 6) T D^2 + 4 L (1 + k) T D`
///
/// Left out: everything that is not a matrix product, and what stochastic depth saves.
pub fn flops(config: &Config, dim: usize, depth: usize) -> usize {
    let (m, h, l) = (&config.model, &config.head, config.patch_loss.aggregation_depth);
    let k = config.patch_loss.k_num;
    let (mut images, mut tokens, mut squares) = (0, 0, 0);
    for (count, size) in crops(config) {
        let n = (size / m.patch_size).pow(2);
        (images, tokens, squares) = (images + count, tokens + count * n, squares + count * n * n);
    }
    let rows = tokens + images;
    let backbone = tokens * (6 * m.patch_size.pow(2) * dim + 24 * depth * dim * dim) + 4 * depth * dim * squares;
    let class = l * (4 * rows * dim * dim + 20 * images * dim * dim + 4 * rows * dim);
    let heads = 2 * rows * (dim * h.hidden_dim + h.hidden_dim.pow(2) + h.hidden_dim * h.bottleneck_dim)
        + 2 * h.bottleneck_dim * (images * h.out_dim + tokens * h.out_dim_selfpatch);
    4 * (backbone + class + heads) + aggregation(tokens, dim, l, k)
}

/// FLOPs of the teacher's patch targets: keys and values of tokens 4, of class vectors 4 and queries 2
/// (once for all patches in the first block, hence -6), output 2, feed-forward 16; scores and sum.
pub fn aggregation(tokens: usize, dim: usize, blocks: usize, k: usize) -> usize {
    (28 * blocks - 6) * tokens * dim * dim + 4 * blocks * (1 + k) * tokens * dim
}
