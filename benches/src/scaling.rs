//! How the cost of a step grows.

use crate::bounds::whole;
use crate::machine;
use crate::step::{Shape, StepTimes};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Steps that are timed, for each line
    #[arg(long, default_value_t = 3, value_parser = whole(1, 1000000))]
    steps: usize,
}

pub fn run(args: &Args) -> Result<()> {
    let plain = Shape::default();
    let cores = machine::cores();
    let mut cases: Vec<(String, Shape)> = Vec::new();
    for batch in [1, 2, 4, 8, 16] {
        cases.push((format!("{batch} images"), Shape { batch, ..plain.clone() }));
    }
    for local in [0, 4, 8, 16] {
        cases.push((format!("2 + {local} crops, 4 images"), Shape { local, ..plain.clone() }));
    }
    cases.push(("patch 8, 1 image".into(), Shape { patch_size: 8, batch: 1, ..plain.clone() }));
    for out_dim in [4096, 16384, 65536] {
        cases.push((format!("{out_dim} classes, 4 images"), Shape { out_dim, ..plain.clone() }));
    }
    for threads in (0..).map(|i| 1 << i).take_while(|&t| t <= cores) {
        cases.push((format!("{threads} threads, 4 images"), Shape { threads: Some(threads), ..plain.clone() }));
    }
    say!("| step | seconds | seconds per image | GF/s | peak memory, GB |");
    say!("|---|---|---|---|---|");
    for (name, shape) in cases {
        let r = measured_apart(&shape, args.steps)?;
        let seconds = r.seconds_per_step_median;
        say!(
            "| {name} | {seconds:.3} | {:.3} | {:.0} | {:.2} |",
            seconds / shape.batch as f64,
            r.gflops_per_second.unwrap_or(f64::NAN),
            r.peak_memory_bytes.map_or(f64::NAN, |b| b as f64 / 1e9)
        );
    }
    Ok(())
}

/// `bench step` in a process of its own.
pub fn measured_apart(shape: &Shape, steps: usize) -> Result<StepTimes> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.arg("step").args(shape.arguments()).args(["--json", "--warmup", "3", "--steps", &steps.to_string()]);
    reported(command)
}

/// Runs a program that prints a [`StepTimes`] as its last line.
pub fn reported(mut command: Command) -> Result<StepTimes> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(Stdio::piped()).output().with_context(|| format!("{name} could not be started"))?;
    if !output.status.success() {
        bail!("{name} failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr))
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("{name} printed no report but {line:?}"))
}
