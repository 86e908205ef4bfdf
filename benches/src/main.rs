//! `cargo xtask bench`: how fast a training step is, op by op, and beside PyTorch.
//!
//! Every figure is measured in the run that prints it. Each step bench runs in a process of its own,
//! so that peak memory is that of the step.

#[macro_use]
extern crate selfpatch_output;

mod agree;
mod bounds;
mod data;
mod davis;
mod machine;
mod ops;
#[cfg(test)]
mod pages;
mod peer;
mod scaling;
mod step;
mod upkeep;
mod versus;

use clap::{Parser, Subcommand};
use selfpatch_allocator as _;
use std::process::ExitCode;

/// Measure the training step and its ops.
#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One whole training step on random crops: time, memory, share of the GEMM peak
    Step(step::Args),
    /// Each fused op beside its plain reference and its floor
    Ops(ops::Args),
    /// How the cost of a step grows with images, crops, patch size, prototypes and threads
    Scaling(scaling::Args),
    /// How fast images become views, stage by stage; with --python beside PIL and torchvision
    Data(data::Args),
    /// Label propagation through a video; with --python beside DINO's protocol in PyTorch
    Davis(davis::Args),
    /// What health metrics and checkpoints cost beside a step
    Upkeep(upkeep::Args),
    /// Our step and PyTorch's in turn, in separate processes; the median of the pairwise ratios
    VersusPytorch(versus::Args),
}

fn main() -> ExitCode {
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        // SAFETY: there is one thread so far.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    }
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Step(args) => step::run(args),
        Command::Ops(args) => ops::run(args),
        Command::Scaling(args) => scaling::run(args),
        Command::Data(args) => data::run(args),
        Command::Davis(args) => davis::run(args),
        Command::Upkeep(args) => upkeep::run(args),
        Command::VersusPytorch(args) => versus::run(args),
    };
    match outcome {
        Ok(()) => selfpatch_output::ended(ExitCode::SUCCESS),
        Err(e) => {
            note!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}
