//! `selfpatch replay`.

use crate::device::Compute;
use anyhow::Result;
use selfpatch_train::replay;
use std::path::PathBuf;

/// Repeats the step that a run could not take.
#[derive(clap::Args)]
pub struct Args {
    /// A file that the run left, RUN/replay/step-NNNNNN.safetensors
    file: PathBuf,
    #[command(flatten)]
    compute: Compute,
}

/// Prints how the step goes; false if a number is non-finite again.
pub fn run(args: &Args) -> Result<bool> {
    let replay = replay(&args.file, &args.compute.device()?)?;
    say!("step {} with {} images: {}", replay.step, replay.names.len(), replay.names.join(", "));
    match replay.outcome {
        Ok(report) => {
            let [total, class, patch] = report.losses;
            say!("finite: loss {total} (class {class}, patch {patch}), gradient norm {}", report.grad_norm);
            Ok(true)
        }
        Err((error, place)) => {
            say!("{error}; {place}");
            Ok(false)
        }
    }
}
