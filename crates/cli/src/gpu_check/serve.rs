//! The worker's side: jobs come in on standard input, answers go out on standard output.

use super::job::Job;
use super::worker::OUT_OF_MEMORY;
use super::{facts, speed, training};
use crate::device;
use crate::error::plain;
use crate::parity::{Computing, checked};
use anyhow::Result;
use candle_core::Device;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{BufRead, Write};

/// Does jobs on the device called `name` until there are no more.
pub fn serve(name: &str) -> Result<bool> {
    end_with_parent();
    let device = device::named(name);
    for line in std::io::stdin().lock().lines() {
        let (answer, released) = match &device {
            Ok(device) => done(&line?, device),
            Err(e) => (json!({ "error": plain(e) }), Ok(())),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
        if released.is_err() {
            // CUDA's context is dead. Leaving without dropping the device: its `CudaBlas` panics on such a context.
            std::process::exit(0);
        }
    }
    Ok(true)
}

/// Ends this process soon after the check that started it, however that ended: nobody would read the answer.
#[cfg(unix)]
fn end_with_parent() {
    use std::os::unix::process::parent_id;
    let parent = parent_id();
    // Without the thread the process ends after the job at hand, when it finds no other.
    let _ = std::thread::Builder::new().name("parent".into()).spawn(move || {
        while parent_id() == parent {
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        std::process::exit(1);
    });
}

#[cfg(not(unix))]
fn end_with_parent() {}

/// The answer to a job, and whether memory could be given back after it.
fn done(line: &str, device: &Device) -> (Value, Result<()>) {
    let answer = serde_json::from_str(line).map_err(Into::into).and_then(|job| answer(job, device));
    let answer = answer.unwrap_or_else(|e| json!({ "error": short(&plain(&e)) }));
    // The peer's turn: what this process keeps for itself is memory that the peer lacks.
    (answer, release(device))
}

fn answer(job: Job, device: &Device) -> Result<Value> {
    fn value(answer: impl Serialize) -> Result<Value> {
        Ok(serde_json::to_value(answer)?)
    }
    match job {
        Job::Device { side } => value(facts::of(device, side)?),
        Job::Parity { autocast, fixtures } => {
            let computing = Computing { device: device.clone(), precision: autocast.into() };
            value(checked(&[fixtures], &super::fixtures::names(), &computing)?)
        }
        Job::Train { autocast, steps, folder } => value(training::losses(autocast, steps, &folder, device)?),
        Job::Speed(job) => value(speed::measured(&job, device)?),
    }
}

/// An error of the driver in words that fit into a table.
fn short(error: &str) -> String {
    let memory = ["OUT_OF_MEMORY", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED"];
    if memory.iter().any(|text| error.contains(text)) { OUT_OF_MEMORY.into() } else { error.into() }
}

#[cfg(feature = "cuda")]
fn release(device: &Device) -> Result<()> {
    if device.is_cuda() {
        selfpatch_nn::cuda::memory::release(device)?;
    }
    Ok(())
}

#[cfg(not(feature = "cuda"))]
fn release(_: &Device) -> Result<()> {
    Ok(())
}
