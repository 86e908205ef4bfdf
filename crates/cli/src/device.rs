//! Where to compute, in which precision, and with how many threads.

use crate::bounds::integer;
use anyhow::{Context, Result, anyhow, bail};
use candle_core::Device;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use selfpatch_train::config::Precision;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use std::ffi::OsString;

/// Flags that every computing command has.
#[derive(clap::Args, Clone, Debug)]
pub struct Compute {
    /// `auto` (the first GPU that this program was built for and that answers, else the CPU), `cpu`, `cuda`, `cuda:N`
    /// or `metal`
    #[arg(long, default_value = "auto")]
    device: String,
    /// Threads to compute with [default: one per core]
    #[arg(long, value_name = "N", value_parser = integer(0, 1024))]
    threads: Option<usize>,
}

impl Compute {
    /// The device asked for.
    pub fn device(&self) -> Result<Device> {
        if self.threads == Some(0) {
            bail!("--threads: must be at least 1");
        }
        named(&self.device)
    }
}

/// Reads the name that a precision has in a configuration.
pub fn precision() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(["f32", "bf16", "fp16"])
        .try_map(|name| Precision::deserialize(name.into_deserializer()).map_err(|e: serde::de::value::Error| e))
}

/// The device called `name`, a value of `--device`. A program that was built for CUDA says which one `auto` is.
pub fn named(name: &str) -> Result<Device> {
    let gpu = |n: usize| cuda(n).map_err(|reason| anyhow!("--device {name}: {reason}; --device cpu does without"));
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" if cfg!(feature = "cuda") => Ok(cuda(0).map_or_else(
            |reason| {
                note!("device: CPU ({reason})");
                Device::Cpu
            },
            |device| {
                note!("device: GPU 0");
                device
            },
        )),
        "auto" if cfg!(feature = "metal") => Ok(Device::new_metal(0)?),
        "auto" => Ok(Device::Cpu),
        "metal" => Device::new_metal(0).context("--device metal: this build or machine has no Metal"),
        "cuda" => gpu(0),
        _ => match name.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(n)) => gpu(n),
            Some(Err(_)) => bail!("--device: {name:?} does not name a GPU by its number, as cuda:0 does"),
            None => bail!("--device: there is no {name:?}; valid are auto, cpu, cuda, cuda:N, metal"),
        },
    }
}

/// GPU number `n`, or why there is none.
#[cfg(feature = "cuda")]
fn cuda(n: usize) -> std::result::Result<Device, String> {
    use candle_core::cuda_backend::cudarc::driver::{result, sys, sys::CUresult};
    /// 13.0 as the driver counts: every later driver for CUDA 13 runs what was built for it.
    const CUDA: i32 = 13000;
    let count = match result::init().and_then(|()| result::device::get_count()) {
        Ok(count) => count as usize,
        Err(e) if e.0 == CUresult::CUDA_ERROR_NO_DEVICE => 0,
        Err(e) if e.0 == CUresult::CUDA_ERROR_STUB_LIBRARY => return Err("this machine has no NVIDIA driver".into()),
        Err(e) => return Err(format!("the NVIDIA driver does not start ({:?})", e.0)),
    };
    let mut version = 0;
    // SAFETY: `version` outlives the call.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(|e| format!("the NVIDIA driver fails ({:?})", e.0))?;
    if version < CUDA {
        let (major, minor) = (version / 1000, version % 1000 / 10);
        return Err(format!(
            "the NVIDIA driver is for CUDA {major}.{minor}; this program needs driver 580 or later (CUDA 13)"
        ));
    }
    match count {
        0 => Err("the NVIDIA driver finds no GPU".into()),
        1 if n > 0 => Err("there is one GPU, cuda:0".into()),
        _ if n >= count => Err(format!("there are {count} GPUs, cuda:0 to cuda:{}", count - 1)),
        _ => selfpatch_nn::cuda::new_device(n)
            .map_err(|e| format!("GPU {n} cannot be used: {}", selfpatch_output::plain(&e))),
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> std::result::Result<Device, String> {
    Err("this program was built without CUDA; build it by `cargo xtask build --features cuda`".into())
}

/// Environment variables that limit threads, with their values, to be set before anything computes. `--threads` is for
/// the thread pool of rayon, which reads its size from the environment when it is first used. candle has a pool of its
/// own whose idle threads spin and take the cores away from rayon's; it gets one thread, unless `CANDLE_NUM_THREADS`
/// says otherwise.
pub fn thread_limits(arguments: &[OsString]) -> Vec<(&'static str, String)> {
    let texts: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).collect();
    let value = texts
        .iter()
        .position(|a| *a == "--threads")
        .and_then(|i| texts.get(i + 1).copied())
        .or_else(|| texts.iter().find_map(|a| a.strip_prefix("--threads=")));
    let mut limits = Vec::new();
    if let Some(threads) = value.filter(|v| v.parse::<usize>().is_ok_and(|n| n > 0)) {
        limits.push(("RAYON_NUM_THREADS", threads.to_string()));
    }
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        limits.push(("CANDLE_NUM_THREADS", "1".to_string()));
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_limited_as_the_arguments_say() {
        let rayon = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            let limits = thread_limits(&args).into_iter();
            limits.filter(|(name, _)| *name == "RAYON_NUM_THREADS").map(|(_, n)| n).collect::<Vec<_>>()
        };
        assert_eq!(rayon(&["selfpatch", "train", "--threads", "3"]), ["3"]);
        assert_eq!(rayon(&["selfpatch", "train", "--threads=2"]), ["2"]);
        for none in [&["selfpatch", "train"][..], &["selfpatch", "--threads"], &["selfpatch", "--threads", "0"]] {
            assert!(rayon(none).is_empty(), "{none:?}");
        }
        // What is asked for is told, nothing is set.
        let before = std::env::var_os("CANDLE_NUM_THREADS");
        let candle = thread_limits(&[]).iter().any(|(name, _)| *name == "CANDLE_NUM_THREADS");
        assert_eq!((candle, std::env::var_os("CANDLE_NUM_THREADS")), (before.is_none(), before));
    }

    #[test]
    fn devices_are_found_or_refused_in_one_sentence() {
        assert!(named("cpu").is_ok_and(|d| d.is_cpu()) && named("auto").is_ok());
        for (name, expected) in [
            ("cuda:x", "does not name a GPU by its number"),
            ("cuda:-1", "does not name a GPU by its number"),
            ("gpu", "valid are auto, cpu, cuda, cuda:N, metal"),
        ] {
            let text = selfpatch_output::plain(named(name).unwrap_err().as_ref());
            assert!(text.contains(expected) && text.contains(name) && !text.contains('\n'), "{text}");
        }
        // No machine has so many.
        let text = selfpatch_output::plain(named("cuda:4095").unwrap_err().as_ref());
        let expected =
            ["built without CUDA", "no NVIDIA driver", "580 or later", "finds no GPU", "there is one GPU", "there are"];
        assert!(text.contains("--device cuda:4095") && expected.iter().any(|e| text.contains(e)), "{text}");
    }
}
