//! Where to compute, and with how many threads.

use anyhow::{Context, Result, bail};
use candle_core::Device;
use std::ffi::OsString;

/// Flags that every computing command has.
#[derive(clap::Args, Clone, Debug)]
pub struct Compute {
    /// `auto`, `cpu`, `cuda`, `cuda:N` or `metal`
    #[arg(long, default_value = "auto")]
    device: String,
    /// Threads to compute with [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl Compute {
    /// The device asked for; `auto` is the first GPU this build supports, else the CPU.
    pub fn device(&self) -> Result<Device> {
        if self.threads == Some(0) {
            bail!("--threads: must be at least 1");
        }
        let number = |text: &str| -> Result<usize> {
            text.parse().with_context(|| format!("--device: {:?} does not name a GPU by its number", self.device))
        };
        match self.device.as_str() {
            "cpu" => Ok(Device::Cpu),
            "auto" if candle_core::utils::cuda_is_available() => Ok(Device::new_cuda(0)?),
            "auto" if candle_core::utils::metal_is_available() => Ok(Device::new_metal(0)?),
            "auto" => Ok(Device::Cpu),
            "metal" => Device::new_metal(0).context("--device metal: this build or machine has no Metal"),
            "cuda" => Device::new_cuda(0).context("--device cuda: this build or machine has no CUDA GPU"),
            other => match other.strip_prefix("cuda:") {
                Some(n) => {
                    let n = number(n)?;
                    Device::new_cuda(n).with_context(|| format!("--device cuda:{n}: there is no such GPU"))
                }
                None => bail!("--device: there is no {other:?}; valid are auto, cpu, cuda, cuda:N, metal"),
            },
        }
    }
}

/// Passes `--threads` on to the thread pool of rayon, which reads its size from the environment when it
/// is first used. candle has a pool of its own whose idle threads spin and take the cores away from
/// rayon's; it gets one thread, unless `CANDLE_NUM_THREADS` says otherwise.
pub fn limit_threads(arguments: &[OsString]) {
    let texts: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).collect();
    let value = texts
        .iter()
        .position(|a| *a == "--threads")
        .and_then(|i| texts.get(i + 1).copied())
        .or_else(|| texts.iter().find_map(|a| a.strip_prefix("--threads=")));
    let set = |variable: &str, threads: &str| {
        // SAFETY: called first thing in `main`, while there is one thread.
        unsafe { std::env::set_var(variable, threads) };
    };
    if let Some(threads) = value.filter(|v| v.parse::<usize>().is_ok_and(|n| n > 0)) {
        set("RAYON_NUM_THREADS", threads);
    }
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        set("CANDLE_NUM_THREADS", "1");
    }
}
