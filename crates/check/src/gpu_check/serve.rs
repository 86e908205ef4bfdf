//! The worker's side: jobs come in line by line, answers go out.

use super::job::Job;
use super::worker::OUT_OF_MEMORY;
use super::{facts, speed, training};
use crate::parity::{Computing, checked};
use anyhow::Result;
use candle_core::Device;
use selfpatch_output::plain;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{self, BufRead, Write};

/// Why a worker does no further jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// There are no further jobs.
    Done,
    /// The device's memory could not be given back: CUDA's context is dead. Whoever drops the device then panics (in
    /// its `CudaBlas`), so the process has to exit without that.
    DeadContext,
}

/// Does jobs on a device, or answers each by why there is none. A job is a line of JSON, and so is an answer.
///
/// # Errors
/// The errors of reading jobs and of writing answers.
pub fn serve(device: Result<&Device, &str>, jobs: impl BufRead, mut answers: impl Write) -> io::Result<Ended> {
    for line in jobs.lines() {
        let line = line?;
        let (answer, released) = match device {
            Ok(device) => done(&line, device),
            Err(why) => (json!({ "error": why }), Ok(())),
        };
        writeln!(answers, "{answer}")?;
        answers.flush()?;
        if released.is_err() {
            return Ok(Ended::DeadContext);
        }
    }
    Ok(Ended::Done)
}

/// The answer to a job, and whether memory could be given back after it.
fn done(line: &str, device: &Device) -> (Value, Result<()>) {
    let answer = serde_json::from_str(line).map_err(Into::into).and_then(|job| answer(job, device));
    let answer = answer.unwrap_or_else(|e| json!({ "error": short(&plain(e.as_ref())) }));
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
            let computing = Computing { device: device.clone(), precision: autocast };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_has_an_answer_also_one_that_cannot_be_done() -> Result<()> {
        let jobs = "{\"job\":\"device\",\"side\":16}\nno job\n";
        let mut answers = Vec::new();
        assert_eq!(serve(Ok(&Device::Cpu), jobs.as_bytes(), &mut answers)?, Ended::Done);
        let lines: Vec<Value> =
            String::from_utf8(answers)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        assert_eq!((lines.len(), &lines[0]["name"]), (2, &json!("CPU")));
        assert!(lines[1]["error"].is_string(), "{lines:?}");

        let mut answers = Vec::new();
        serve(Err("no such device"), jobs.as_bytes(), &mut answers)?;
        assert_eq!(String::from_utf8(answers)?, "{\"error\":\"no such device\"}\n".repeat(2));
        Ok(())
    }
}
