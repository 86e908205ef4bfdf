//! Side by side with PyTorch: both programs in turn, A B A B, so that a slow minute of the machine
//! hits both.

use crate::bounds::whole;
use crate::machine::median;
use crate::scaling::{measured_apart, reported};
use crate::step::Shape;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The Python whose PyTorch is measured
    #[arg(long, value_name = "PATH")]
    python: PathBuf,
    #[command(flatten)]
    shape: Shape,
    /// Pairs of runs
    #[arg(long, default_value_t = 5, value_parser = whole(1, 10000))]
    pairs: usize,
    /// Timed steps of one run, after three that are not
    #[arg(long, default_value_t = 3, value_parser = whole(1, 1000000))]
    steps: usize,
    /// Measure the teacher's matching and aggregation alone
    #[arg(long)]
    targets: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/check/src/gpu_check/peer.py");
    let (mut ratios, mut ours, mut theirs, mut memory) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let steps = args.steps.max(1);
    for pair in 1..=args.pairs.max(1) {
        let a = match args.targets {
            true => crate::ops::targets_apart(&args.shape, steps)?,
            false => measured_apart(&args.shape, steps)?,
        };
        let mut python = Command::new(&args.python);
        python.args(["-W", "ignore"]).arg(&peer).args(args.shape.arguments()).args([
            "--steps",
            &steps.to_string(),
            "--warmup",
            "3",
        ]);
        if args.targets {
            python.args(["--part", "targets"]);
        }
        let b = reported(python).with_context(|| format!("{} with PyTorch", args.python.display()))?;
        let (x, y) = (a.seconds_per_step_median, b.seconds_per_step_median);
        if !args.json {
            say!("pair {pair}: selfpatch {x:.4} s, PyTorch {y:.4} s, ratio {:.2}", y / x);
        }
        ratios.push(y / x);
        ours.push(x);
        theirs.push(y);
        if let (Some(a), Some(b)) = (a.peak_memory_bytes, b.peak_memory_bytes) {
            memory.push((a as f64, b as f64));
        }
    }
    let (ratio, x, y) = (median(ratios.clone()), median(ours), median(theirs));
    let largest = |values: Vec<f64>| values.into_iter().fold(0., f64::max);
    let (a, b) = (largest(memory.iter().map(|m| m.0).collect()), largest(memory.iter().map(|m| m.1).collect()));
    if args.json {
        let report = serde_json::json!({
            "ratio_median": ratio, "ratios": ratios, "seconds_selfpatch": x, "seconds_pytorch": y,
            "peak_memory_selfpatch": a, "peak_memory_pytorch": b,
        });
        say!("{report}");
    } else {
        say!("median of pairwise ratios: {ratio:.2} (selfpatch {x:.4} s, PyTorch {y:.4} s)");
        if !args.targets && b > 0. {
            say!("peak memory: selfpatch {:.2} GB, PyTorch {:.2} GB, {:.2} of it", a / 1e9, b / 1e9, a / b);
        }
    }
    Ok(())
}
