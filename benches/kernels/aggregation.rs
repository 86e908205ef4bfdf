//! Class-attention pooling without gradients, as the teacher runs it, of `tokens [B, N, D]`:
//! `patches` (one target per patch from its `k` positives) and `image` (one class token per image).
//! B = 8 (2 global views of 4 images), N = 196, D = 192, 3 heads, L = 2 blocks, k = 4.
//!
//! Floor in FLOPs, each token's keys and values being projected once:
//! - `patches`: `(28 L - 6) B N D^2 + 4 L (1 + k) B N D`. A block takes keys and values of tokens 4,
//!   of class vectors 4 and queries 2 (once for all patches in the first block, hence -6), output 2,
//!   feed-forward 16; then scores and sum.
//! - `image`: `L B (4 (1 + N) D^2 + 20 D^2 + 4 (1 + N) D)`: keys and values; query, output and
//!   feed-forward of the class token alone; scores and sum.
//!
//! Bytes: `4 B N D` in, `4 B N D` (`patches`) or `4 B D` (`image`) out, `4 L 12 D^2` of weights.

use candle_core::{DType, Device, Tensor};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use selfpatch_aggregation::{Aggregator, AggregatorConfig};
use selfpatch_allocator as _;
use selfpatch_matching::{Border, Neighbours, positives};
use selfpatch_nn::Params;
use std::hint::black_box;
use std::time::Duration;

const B: usize = 8;
const SIDE: usize = 14;
const D: usize = 192;
const HEADS: usize = 3;
const K: usize = 4;

fn aggregation(c: &mut Criterion) {
    let n = SIDE * SIDE;
    let tokens = Tensor::randn(0f32, 1f32, (B, n, D), &Device::Cpu).unwrap();
    let neighbours = Neighbours::new(SIDE, SIDE, 3, Border::Torus).unwrap();
    let chosen = positives(&tokens, &neighbours, K).unwrap();
    let config = AggregatorConfig::new(D, HEADS);
    let depth = config.depth;
    let head = Aggregator::new(&config, Params::frozen(0).builder(DType::F32, &Device::Cpu)).unwrap();

    let mut group = c.benchmark_group("aggregation");
    group.sampling_mode(SamplingMode::Flat);
    let flops = (28 * depth - 6) * B * n * D * D + 4 * depth * (1 + K) * B * n * D;
    group.throughput(Throughput::Elements(flops as u64));
    group.bench_function("patches", |b| b.iter(|| head.patches(black_box(&tokens), &chosen).unwrap()));
    let flops = depth * B * (4 * (1 + n) * D * D + 20 * D * D + 4 * (1 + n) * D);
    group.throughput(Throughput::Elements(flops as u64));
    group.bench_function("image", |b| b.iter(|| head.image(black_box(&tokens)).unwrap()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = aggregation
}
criterion_main!(benches);
