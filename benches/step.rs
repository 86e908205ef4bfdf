//! One whole training step of the default recipe on random crops: teacher, student, both losses,
//! gradients, clipping, AdamW, average. No loading or augmentation of images.
//!
//! Floor in FLOPs: `4 F + A`. `F` is one forward pass of what both networks do (the teacher once; the
//! student once, and twice that backward), `A` the aggregation of patches, done by the teacher alone.
//! With `V` crops (all images), crop `i` having `n_i` patches and `T` being the sum of `n_i`; width
//! `D`, `d` blocks, `L` class blocks, patches of `p^2` pixels; heads of hidden width `H`, bottleneck
//! `b` and `K` or `P` prototypes:
//! - backbone: `T (6 p^2 D + 24 d D^2) + 4 d D sum(n_i^2)`
//! - class tokens: `L (4 (T + V) D^2 + 20 V D^2 + 4 (T + V) D)`
//! - heads: `2 (T + V) (D H + H^2 + H b) + 2 b (V K + T P)`
//! - `A = (28 L - 6) T D^2 + 4 L (1 + k) T D`
//!
//! Bytes: `36` per parameter (weight, gradient and two moments in, weight and moments out; the
//! teacher's weight in and out).

use candle_core::{DType, Device, Tensor};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use selfpatch_train::{Config, Hyper, Preset, Settings, Trainer};
use std::hint::black_box;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc; // that of the program

/// Number and side of the crops of one batch, per crop size.
fn crop_counts(config: &Config) -> Vec<(usize, usize)> {
    let views = [config.crops.globals.len(), config.crops.local_count];
    views.into_iter().map(|v| v * config.optim.batch_size).zip(config.crop_sizes()).collect()
}

fn flops(config: &Config) -> usize {
    let (m, h, l) = (&config.model, &config.head, config.patch_loss.aggregation_depth);
    let (dim, k) = (m.embed_dim, config.patch_loss.k_num);
    let (mut crops, mut tokens, mut squares) = (0, 0, 0);
    for (count, size) in crop_counts(config) {
        let n = (size / m.patch_size).pow(2);
        (crops, tokens, squares) = (crops + count, tokens + count * n, squares + count * n * n);
    }
    let rows = tokens + crops;
    let backbone = tokens * (6 * m.patch_size.pow(2) * dim + 24 * m.depth * dim * dim) + 4 * m.depth * dim * squares;
    let class = l * (4 * rows * dim * dim + 20 * crops * dim * dim + 4 * rows * dim);
    let heads = 2 * rows * (dim * h.hidden_dim + h.hidden_dim.pow(2) + h.hidden_dim * h.bottleneck_dim)
        + 2 * h.bottleneck_dim * (crops * h.out_dim + tokens * h.out_dim_selfpatch);
    let aggregation = (28 * l - 6) * tokens * dim * dim + 4 * l * (1 + k) * tokens * dim;
    4 * (backbone + class + heads) + aggregation
}

fn step(c: &mut Criterion) {
    let config = Preset::Default.config();
    let images = config.optim.batch_size;
    let crops: Vec<Tensor> = crop_counts(&config)
        .into_iter()
        .map(|(count, size)| Tensor::randn(0f32, 1f32, (count, 3, size, size), &Device::Cpu).unwrap())
        .collect();
    let hyper = Hyper {
        lr: config.optim.lr * images as f64 / 256.,
        weight_decay: config.optim.weight_decay,
        momentum: config.optim.momentum_teacher,
        teacher_temp: config.image_loss.teacher_temp,
        patch_teacher_temp: config.patch_loss.teacher_temp.unwrap_or(config.image_loss.teacher_temp),
        freeze_last_layer: false,
    };
    let mut trainer = Trainer::new(Settings::of(&config).unwrap(), DType::F32, &Device::Cpu).unwrap();

    let mut group = c.benchmark_group("step");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(flops(&config) as u64));
    let mut at = 0;
    group.bench_function("default", |b| {
        b.iter(|| {
            at += 1;
            trainer.step(black_box(&crops), images, at, &hyper).unwrap()
        })
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    targets = step
}
criterion_main!(benches);
