//! How long our training step takes, how much memory, and where the time goes.

use super::job::Speed;
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use selfpatch_losses::At;
use selfpatch_nn::Backbone;
use selfpatch_nn::{autocast, backward};
use selfpatch_train::{Hyper, Settings, Trainer, work};
use selfpatch_vit::Pass;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Measurements of training steps, ours or the peer's.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Measured {
    /// The time of each step.
    pub seconds: Vec<f64>,
    /// Total loss of the last step, if it is finite.
    pub loss: Option<f64>,
    /// Most memory that tensors held at a time.
    pub peak_memory_bytes: Option<u64>,
    /// Most memory that was kept for tensors.
    pub reserved_memory_bytes: Option<u64>,
    /// Readings of the device in one step, each of which stops it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfers: Option<u64>,
    /// Where the time of a step goes when each part is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phases: Option<Phases>,
}

/// Milliseconds of each part of a step.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Phases {
    /// The teacher's targets.
    pub teacher: f64,
    /// The student's forward pass.
    pub student: f64,
    /// Both losses.
    pub loss: f64,
    /// The backward pass.
    pub backward: f64,
    /// Clipping, AdamW, the teacher's average.
    pub update: f64,
}

/// The published start, without its warm-up, and past the epoch in which prototypes are frozen.
const HYPER: Hyper =
    Hyper { lr: 1e-4, weight_decay: 0.04, momentum: 0.996, patch_teacher_temp: 0.04, at: At { step: 0, epoch: 9 } };

/// Times steps on random crops.
pub fn measured(job: &Speed, device: &Device) -> Result<Measured> {
    memory::reset(device)?;
    let config = job.config();
    let mut trainer = Trainer::new(Settings::of(&config)?, DType::F32, device)?;
    let random = |(count, size)| Tensor::randn(0f32, 1f32, (count, 3, size, size), device);
    let crops = work::crops(&config).into_iter().map(random).collect::<candle_core::Result<Vec<_>>>()?;
    let mut measured = Measured::default();
    let mut begun = Instant::now();
    for step in 0..job.warmup + job.steps {
        let start = Instant::now();
        let report = trainer.step(&crops, job.batch, step, &HYPER)?;
        device.synchronize()?;
        if step < job.warmup {
            begun = Instant::now();
            continue;
        }
        measured.seconds.push(start.elapsed().as_secs_f64());
        (measured.loss, measured.transfers) = (Some(report.losses[0]), Some(report.transfers));
        if measured.seconds.len() >= 5 && begun.elapsed().as_secs_f64() > job.seconds {
            break;
        }
    }
    (measured.peak_memory_bytes, measured.reserved_memory_bytes) = memory::peak(device)?;
    // Waiting for each part may take more memory than steps do; those are measured by now.
    measured.phases = phases(&mut trainer, &crops, job.batch, device).ok();
    Ok(measured)
}

/// One step in parts, the best of three.
fn phases(trainer: &mut Trainer, crops: &[Tensor], images: usize, device: &Device) -> Result<Phases> {
    let mut best = Phases::default();
    for round in 0..3 {
        let p = parts(trainer, crops, images, device)?;
        let least = |a: f64, b: f64| if round == 0 { b } else { a.min(b) };
        best = Phases {
            teacher: least(best.teacher, p.teacher),
            student: least(best.student, p.student),
            loss: least(best.loss, p.loss),
            backward: least(best.backward, p.backward),
            update: least(best.update, p.update),
        };
    }
    Ok(best)
}

fn parts(trainer: &mut Trainer, crops: &[Tensor], images: usize, device: &Device) -> Result<Phases> {
    device.synchronize()?;
    let mut last = Instant::now();
    let mut lap = || -> Result<f64> {
        device.synchronize()?;
        let took = last.elapsed().as_secs_f64() * 1e3;
        last = Instant::now();
        Ok(took)
    };
    let mut phases = Phases::default();
    let loss = autocast(trainer.precision(), || -> Result<_> {
        let patches = trainer.student().backbone.patches(crops)?;
        let teacher = trainer.teacher_rows(&patches)?;
        phases.teacher = lap()?;
        let student = trainer.student_rows(&patches, &Pass::default(), 9)?;
        phases.student = lap()?;
        let loss = trainer.loss(&student, &teacher, &patches, images, &HYPER)?;
        phases.loss = lap()?;
        Ok(loss)
    })?;
    let mut grads = backward(&loss.total)?;
    phases.backward = lap()?;
    trainer.update(&mut grads, &HYPER)?;
    phases.update = lap()?;
    Ok(phases)
}

/// The device's account of its memory; a CPU keeps none.
mod memory {
    use super::*;

    #[cfg(feature = "cuda")]
    pub fn reset(device: &Device) -> Result<()> {
        if device.is_cuda() {
            selfpatch_nn::cuda::memory::reset_peak(device)?;
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    pub fn peak(device: &Device) -> Result<(Option<u64>, Option<u64>)> {
        let peak = device.is_cuda().then(|| selfpatch_nn::cuda::memory::peak(device)).transpose()?.flatten();
        Ok((peak.map(|p| p.used), peak.map(|p| p.reserved)))
    }

    #[cfg(not(feature = "cuda"))]
    pub fn reset(_: &Device) -> Result<()> {
        Ok(())
    }

    #[cfg(not(feature = "cuda"))]
    pub fn peak(_: &Device) -> Result<(Option<u64>, Option<u64>)> {
        Ok((None, None))
    }
}
