//! How much arithmetic a step takes, by hand count: the floor of its time.

use crate::Config;
use selfpatch_vit::VitConfig;

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
/// `D`, `d` blocks whose feed-forward part is `r` times as wide, `L` class blocks, patches of `p^2` pixels of `C`
/// channels; heads of hidden width `H`, bottleneck `b` and `K` or `P` prototypes:
/// - backbone: `T (2 C p^2 D + (8 + 4 r) d D^2) + 4 d D sum(n_i^2)`
/// - class tokens: `L (4 (T + V) D^2 + 20 V D^2 + 4 (T + V) D)`
/// - heads: `2 (T + V) (D H + H^2 + H b) + 2 b (V K + T P)`; with `patch_loss.lambda` 0 the parts of `V` alone
/// - `A = (28 L - 6) T D^2 + 4 L (1 + k) T D`; 0 with `patch_loss.lambda` 0
///
/// Left out: everything that is not a matrix product, what stochastic depth saves, and what `optim.recompute` adds.
pub fn flops(config: &Config, vit: &VitConfig) -> f64 {
    let (forward, targets) = parts(config, vit);
    4. * forward + targets
}

/// FLOPs of what the teacher does in a step, `F + A` of [`flops`].
pub fn teacher(config: &Config, vit: &VitConfig) -> f64 {
    let (forward, targets) = parts(config, vit);
    forward + targets
}

/// The parts `F` and `A` of [`flops`].
fn parts(config: &Config, vit: &VitConfig) -> (f64, f64) {
    let number = |n: usize| n as f64;
    let (h, l, k) = (&config.head, config.patch_loss.aggregation_depth, config.patch_loss.k_num);
    let crops = crops(config);
    let images: f64 = crops.iter().map(|(count, _)| number(*count)).sum();
    let tokens: f64 = crops.iter().map(|(count, size)| number(*count) * patches(config, *size)).sum();
    let (d, hidden, bottleneck) = (number(vit.embed_dim), number(h.hidden_dim), number(h.bottleneck_dim));
    let backbone: f64 = crops.iter().map(|(count, size)| number(*count) * backbone(config, vit, *size)).sum();
    let rows = tokens + images;
    let class = number(l) * (4. * rows * d * d + 20. * images * d * d + 4. * rows * d);
    let with_patches = config.patch_loss.lambda > 0.;
    let of_head = if with_patches { rows } else { images };
    let prototypes = images * number(h.out_dim) + if with_patches { tokens * number(h.out_dim_selfpatch) } else { 0. };
    let heads = 2. * of_head * (d * hidden + hidden * hidden + hidden * bottleneck) + 2. * bottleneck * prototypes;
    let targets = if with_patches { aggregation(tokens, d, number(l), number(k)) } else { 0. };
    (backbone + class + heads, targets)
}

/// FLOPs of one forward pass of the backbone for one crop of `size` pixels.
pub fn backbone(config: &Config, vit: &VitConfig, size: usize) -> f64 {
    let (n, d, blocks) = (patches(config, size), vit.embed_dim as f64, vit.depth as f64);
    let products = 8. + 4. * vit.mlp_ratio as f64;
    let pixels = (config.data.channels * config.model.patch_size.pow(2)) as f64;
    n * (2. * pixels * d + products * blocks * d * d) + 4. * blocks * d * n * n
}

/// Patches of a crop of `size` pixels.
fn patches(config: &Config, size: usize) -> f64 {
    ((size / config.model.patch_size.max(1)) as f64).powi(2)
}

/// FLOPs of the teacher's patch targets: keys and values of tokens 4, of class vectors 4 and queries 2
/// (once for all patches in the first block, hence -6), output 2, feed-forward 16; scores and sum.
pub fn aggregation(tokens: f64, dim: f64, blocks: f64, k: f64) -> f64 {
    (28. * blocks - 6.) * tokens * dim * dim + 4. * blocks * (1. + k) * tokens * dim
}
