//! Self-attention of `qkv [B N, 3 D]`, the fused op beside its reference from candle's own ops:
//! `forward` (no graph) and `forward+backward`. B = 8, N = 196, D = 192, h = 3 heads.
//!
//! Floor in FLOPs: `4 B N^2 D` forward (scores, sum of values) and `8 B N^2 D` more backward (four
//! products of that size); beside them `B h N^2` exponentials.
//! Bytes: `16 B N D` forward (qkv in, output out); backward `28 B N D` (qkv and its gradient, output
//! gradient) and `8 B h N^2` for the probabilities written and read again.

use candle_core::{Device, Result, Tensor, Var};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use selfpatch_allocator as _;
use selfpatch_nn::Sequences;
use selfpatch_nn::ops::{attention, attention_reference};
use std::hint::black_box;
use std::time::Duration;

const B: usize = 8;
const N: usize = 196;
const D: usize = 192;
const HEADS: usize = 3;

type Op = fn(&Tensor, &Sequences, usize) -> Result<Tensor>;
const OPS: [(&str, Op); 2] = [("fused", attention), ("reference", attention_reference)];

fn forward(c: &mut Criterion) {
    let qkv = Tensor::randn(0f32, 1f32, (B * N, 3 * D), &Device::Cpu).unwrap();
    let sequences = Sequences::new(&[(B, N)]);
    let mut group = c.benchmark_group("attention/forward");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements((4 * B * N * N * D) as u64));
    for (name, op) in OPS {
        group.bench_function(name, |b| b.iter(|| op(black_box(&qkv), &sequences, HEADS).unwrap()));
    }
    group.finish();
}

fn forward_backward(c: &mut Criterion) {
    let qkv = Var::randn(0f32, 1f32, (B * N, 3 * D), &Device::Cpu).unwrap();
    let sequences = Sequences::new(&[(B, N)]);
    let mut group = c.benchmark_group("attention/forward+backward");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements((12 * B * N * N * D) as u64));
    for (name, op) in OPS {
        group.bench_function(name, |b| {
            b.iter(|| op(black_box(&qkv), &sequences, HEADS).unwrap().sum_all().unwrap().backward().unwrap())
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = forward, forward_backward
}
criterion_main!(benches);
