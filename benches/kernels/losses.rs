//! Both objectives, forward and backward to the student's logits:
//! - `image`: DINO over V = 10 views (G = 2 global) of B = 4 images, K = 65536 classes (40 rows).
//! - `patch`: SelfPatch over the R = 680 patches of one image (2 x 196 + 8 x 36), P = 4096 classes.
//!
//! Floor, these being bound by memory: the student's and the used teacher's logits in and the
//! gradient out, once each.
//! - `image`: `4 K (2 V B + G B)` bytes, `K (V B + G B)` exponentials.
//! - `patch`: `4 P 3 R` bytes, `2 R P` exponentials.

use candle_core::{DType, Device, Tensor, Var};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use selfpatch_allocator as _;
use selfpatch_losses::{CropGroup, Dino, PatchLoss, TeacherViews};
use std::hint::black_box;
use std::time::Duration;

const MOMENTUM: f64 = 0.9;
const TEACHER_TEMP: f64 = 0.04;

/// Cosines of random directions in the bottleneck's 256 dimensions.
fn logits(dims: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1. / 16., dims, &Device::Cpu).unwrap()
}

fn image(c: &mut Criterion) {
    let (views, images, classes) = (10, 4, 65536);
    let student = Var::from_tensor(&logits(&[views, images, classes])).unwrap();
    let teacher = TeacherViews::of(&logits(&[views, images, classes]), 2).unwrap();
    let objective = Dino::new(classes, MOMENTUM, DType::F32, &Device::Cpu).unwrap();

    let mut group = c.benchmark_group("losses");
    group.sampling_mode(SamplingMode::Flat);
    let bytes = 4 * classes * (2 * views + objective.globals) * images;
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("image", |b| {
        b.iter(|| {
            objective.loss_of_logits(black_box(&student), &teacher, TEACHER_TEMP).unwrap().loss.backward().unwrap()
        })
    });
    group.finish();
}

fn patch(c: &mut Criterion) {
    let groups = [CropGroup { crops: 2, rows: 196 }, CropGroup { crops: 8, rows: 36 }];
    let (rows, classes) = (680, 4096);
    let student = Var::from_tensor(&logits(&[rows, classes])).unwrap();
    let teacher = logits(&[rows, classes]);
    let objective = PatchLoss::new(classes, MOMENTUM, DType::F32, &Device::Cpu).unwrap();

    let mut group = c.benchmark_group("losses");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Bytes((4 * classes * 3 * rows) as u64));
    group.bench_function("patch", |b| {
        b.iter(|| {
            objective
                .loss_of_logits(black_box(&student), &teacher, &groups, TEACHER_TEMP)
                .unwrap()
                .loss
                .backward()
                .unwrap()
        })
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = image, patch
}
criterion_main!(benches);
