//! Training on a GPU beside training on the CPU. Without a GPU nothing is checked.
#![cfg(feature = "cuda")]

mod common;

use common::{crops, session, tiny, unasked};
use selfpatch_nn::{cuda, transfer};
use selfpatch_run::Event;
use selfpatch_train::candle_core::{DType, Device, Tensor};
use selfpatch_train::config::{Config, Precision};
use selfpatch_train::{Error, Hyper, Scaler, Settings, Trainer, run};
use std::ffi::{c_char, c_void};
use std::path::Path;
use std::sync::Mutex;

/// One test at a time: they count what the process does.
static ALONE: Mutex<()> = Mutex::new(());

/// The first GPU, if there is one.
fn gpu() -> Option<Device> {
    match cuda::new_device(0) {
        Ok(device) => Some(device),
        Err(e) => {
            println!("no CUDA device: skipped ({})", e.to_string().lines().next().unwrap_or_default());
            None
        }
    }
}

fn crops_on(device: &Device) -> Result<Vec<Tensor>, Error> {
    Ok(crops(2).iter().map(|crops| crops.to_device(device)).collect::<Result<_, _>>()?)
}

const HYPER: Hyper = Hyper { lr: 5e-4, ..common::HYPER };

fn trainer(config: &Config, device: &Device) -> Result<Trainer, Error> {
    Ok(Trainer::new(Settings::of(config)?, DType::F32, device)?)
}

/// Copies to the host so far, as the emulator of `cargo xtask cuda-emulator` counts them; `None` on a real GPU.
fn copies_to_host() -> Option<u64> {
    unsafe extern "C" {
        fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    }
    // SAFETY: a null library stands for all that are loaded, and the name ends with a zero.
    let counters = unsafe { dlsym(std::ptr::null_mut(), c"emu_counters".as_ptr()) };
    if counters.is_null() {
        return None;
    }
    let mut values = [0u64; 16];
    // SAFETY: the emulator's function takes a place for its counters, all u64 and fewer than 16.
    let read: extern "C" fn(*mut u64) = unsafe { std::mem::transmute(counters) };
    read(values.as_mut_ptr());
    Some(values[2]) // htod, htod_bytes, dtoh
}

/// Losses of 6 steps.
fn losses(config: &Config, device: &Device) -> Result<Vec<f64>, Error> {
    let mut trainer = trainer(config, device)?;
    // Their gradients are large at first, see precision.rs.
    trainer.scaler.iter_mut().for_each(|scaler| scaler.scale = 8.);
    let crops = crops_on(device)?;
    let step = |step: usize| {
        let before = (transfer::count(), copies_to_host());
        let report = trainer.step(&crops, 2, step, &HYPER)?;
        assert!(!report.overflow && report.transfers == 1 && transfer::count() - before.0 == 1);
        if let (Some(before), Some(after), true) = (before.1, copies_to_host(), device.is_cuda()) {
            assert_eq!(after - before, 1, "copies to the host in step {step}");
        }
        assert!(report.number("feature_rank") > 0.99 && report.number("prototypes_used") > 0.);
        Ok(report.losses[0])
    };
    (0..6).map(step).collect()
}

#[test]
fn training_goes_as_on_the_cpu_and_reads_once_per_step() -> Result<(), Error> {
    let _alone = ALONE.lock();
    let Some(gpu) = gpu() else { return Ok(()) };
    for change in
        [|_: &mut Config| (), |c: &mut Config| c.optim.accumulate = 2, |c: &mut Config| c.optim.recompute = true]
    {
        let mut config = tiny(Path::new("unused"));
        change(&mut config);
        let want = losses(&config, &Device::Cpu)?;
        let greatest = want.iter().fold(0f64, |m, v| m.max(*v));
        for (precision, tolerance) in [(Precision::F32, 1e-4), (Precision::Bf16, 3e-2), (Precision::F16, 5e-3)] {
            config.optim.precision = precision;
            for (step, (got, want)) in losses(&config, &gpu)?.iter().zip(&want).enumerate() {
                let error = (got - want).abs() / greatest;
                assert!(error < tolerance, "{precision:?}, step {step}: {got}, on the CPU in f32 {want}");
            }
        }
    }
    Ok(())
}

/// All that a step may change: both networks, moments, step counts, centres.
fn state(trainer: &Trainer) -> Result<Vec<Vec<f64>>, Error> {
    let tensors = [trainer.student_params.tensors(), trainer.optimizer.moments(), trainer.teacher_params.tensors()];
    let mut all = Vec::new();
    for tensors in tensors {
        let values = tensors.iter().map(|(_, t)| transfer::to_host(&t.force_contiguous()?));
        all.push(values.collect::<Result<Vec<_>, _>>()?.concat());
    }
    for center in [trainer.objective.state().remove(0).1, trainer.patch.center().value().clone()] {
        all.push(transfer::to_host(&center)?);
    }
    all.push(trainer.optimizer.steps()?.values().map(|n| *n as f64).collect());
    Ok(all)
}

#[test]
fn a_number_that_is_non_finite_changes_nothing() -> Result<(), Error> {
    let _alone = ALONE.lock();
    let Some(gpu) = gpu() else { return Ok(()) };
    for precision in [Precision::F32, Precision::F16] {
        let mut config = tiny(Path::new("unused"));
        config.optim.precision = precision;
        let mut trainer = trainer(&config, &gpu)?;
        trainer.scaler.iter_mut().for_each(|scaler| scaler.scale = 8.);
        let (good, mut bad) = (crops_on(&gpu)?, crops_on(&gpu)?);
        bad[1] = (&bad[1] * f64::NAN)?;
        trainer.step(&good, 2, 0, &HYPER)?;
        let before = state(&trainer)?;
        let error = trainer.step(&bad, 2, 1, &HYPER).expect_err("non-finite");
        assert!(matches!(error, Error::NonFinite { step: 1, .. }), "{error}");
        assert!(before == state(&trainer)?);
        trainer.step(&good, 2, 2, &HYPER)?;
        assert!(before != state(&trainer)?);
    }
    Ok(())
}

#[test]
fn an_overflow_leaves_the_student_and_halves_the_scale() -> Result<(), Error> {
    let _alone = ALONE.lock();
    let Some(gpu) = gpu() else { return Ok(()) };
    let mut config = tiny(Path::new("unused"));
    config.optim.precision = Precision::F16;
    let mut trainer = trainer(&config, &gpu)?;
    let crops = crops_on(&gpu)?;
    trainer.scaler = Some(Scaler { scale: 8., good_steps: 0 });
    trainer.step(&crops, 2, 0, &HYPER)?;
    trainer.scaler = Some(Scaler { scale: 2f64.powi(60), good_steps: 7 });
    let before = state(&trainer)?;
    assert!(trainer.step(&crops, 2, 1, &HYPER)?.overflow);
    let after = state(&trainer)?;
    assert_eq!(trainer.scaler, Some(Scaler { scale: 2f64.powi(59), good_steps: 0 }));
    // Student, moments and counts stay; teacher and centres move on.
    let same: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a == b).collect();
    assert_eq!(same, [true, true, false, false, false, true]);
    Ok(())
}

#[test]
fn a_run_begun_on_the_gpu_goes_on_on_the_cpu_and_back() -> Result<(), Error> {
    let _alone = ALONE.lock();
    let Some(gpu) = gpu() else { return Ok(()) };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = tiny(folder.path());
    let mut go = |steps: usize, device: &Device| -> Result<Vec<f64>, Error> {
        config.optim.max_steps = Some(steps);
        let mut losses = Vec::new();
        run(&config, &session(false), device, &mut unasked, |event| {
            if let Event::Step(record) = event {
                losses.push(record.number("train_loss"));
            }
        })?;
        Ok(losses)
    };
    let parts = [go(3, &gpu)?, go(5, &Device::Cpu)?, go(8, &gpu)?].concat();
    config.output_dir = folder.path().join("straight");
    config.optim.max_steps = None;
    let straight = common::go(&config, false)?;
    let greatest = straight.iter().fold(0f64, |m, v| m.max(*v));
    assert_eq!(parts.len(), straight.len());
    for (a, b) in parts.iter().zip(&straight) {
        assert!((a - b).abs() < 1e-4 * greatest, "{parts:?}, on the CPU {straight:?}");
    }
    Ok(())
}
