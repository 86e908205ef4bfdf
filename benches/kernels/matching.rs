//! Positive matching of a batch of 14 x 14 grids: `tokens [B, N, D]` -> the `k` most similar of the
//! `M` neighbours of each patch. B = 8 (2 global views of 4 images), N = 196, D = 192, M = 8, k = 4.
//!
//! Floor: `B N D (3 + 2 M)` FLOPs (norm 2, scaling 1, one dot product per neighbour) and
//! `4 B N D + 8 B N k` bytes (tokens in; ids and similarities out).

use candle_core::{Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use selfpatch_allocator as _;
use selfpatch_matching::{Border, Neighbours, positives};
use std::hint::black_box;
use std::time::Duration;

const B: usize = 8;
const SIDE: usize = 14;
const D: usize = 192;
const K: usize = 4;

fn matching(c: &mut Criterion) {
    let n = SIDE * SIDE;
    let tokens = Tensor::randn(0f32, 1f32, (B, n, D), &Device::Cpu).unwrap();
    let neighbours = Neighbours::new(SIDE, SIDE, 3, Border::Torus).unwrap();
    let flops = B * n * D * (3 + 2 * neighbours.width());

    let mut group = c.benchmark_group("matching");
    group.throughput(Throughput::Elements(flops as u64));
    group.bench_function("positives", |b| b.iter(|| positives(black_box(&tokens), &neighbours, K).unwrap()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = matching
}
criterion_main!(benches);
