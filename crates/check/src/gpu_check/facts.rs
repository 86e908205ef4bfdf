//! Facts of the device, and how fast its products of matrices are.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// A device.
#[derive(Clone, Serialize, Deserialize)]
pub struct Facts {
    /// Name of the device.
    pub name: String,
    /// Version of the driver.
    pub driver: Option<String>,
    /// Newest CUDA of the driver.
    pub cuda: Option<String>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Compute capability, such as 9.0.
    pub compute_capability: Option<String>,
    /// Multiprocessors (SMs), or threads of a CPU.
    pub multiprocessors: usize,
    /// Peak rate of bf16 products as the maker states it, without sparsity, in 10^12 FLOP/s.
    pub peak_tflops: Option<f64>,
    /// The rate of one large product, in 10^12 FLOP/s.
    pub measured_tflops: f64,
    /// Type and side of the product that `measured_tflops` is the rate of.
    pub measured_with: String,
}

/// bf16 products with sums in f32, without sparsity, in 10^12 FLOP/s, as the data sheets have them. The first name that
/// a device's contains counts.
const PEAKS: [(&str, f64); 14] = [
    ("B200", 2250.),
    ("H200 NVL", 835.5),
    ("H200", 989.4),
    ("GH200", 989.4),
    ("H100 NVL", 835.5),
    ("H100 PCIe", 756.5),
    ("H100", 989.4),
    ("A100", 312.),
    ("A30", 165.),
    ("L40S", 362.),
    ("L4", 121.),
    ("RTX 4090", 165.2),
    ("RTX 3090", 71.),
    ("A40", 149.7),
];

fn peak(name: &str) -> Option<f64> {
    let words = |text: &str| text.split([' ', '-']).map(str::to_string).collect::<Vec<_>>();
    let has = |wanted: &str| words(name).windows(words(wanted).len()).any(|part| part == words(wanted));
    PEAKS.iter().find(|(wanted, _)| has(wanted)).map(|(_, peak)| *peak)
}

/// Asks the device, and times products of matrices with this side.
pub fn of(device: &Device, side: usize) -> Result<Facts> {
    // The CPU has no products in bf16.
    let dtype = if device.is_cpu() { DType::F32 } else { DType::BF16 };
    let measured_tflops = product_rate(side, dtype, device)? / 1e12;
    Ok(Facts { measured_tflops, measured_with: format!("{} {side} x {side}", dtype.as_str()), ..asked(device)? })
}

fn product_rate(side: usize, dtype: DType, device: &Device) -> Result<f64> {
    let random = || Tensor::randn(0f32, 1f32, (side, side), device)?.to_dtype(dtype);
    let (a, b) = (random()?, random()?);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..10 {
            a.matmul(&b)?;
        }
        device.synchronize()?;
        best = best.min(start.elapsed().as_secs_f64() / 10.);
    }
    Ok(2. * (side as f64).powi(3) / best)
}

/// Facts of the device but for the rate of its products.
fn asked(device: &Device) -> Result<Facts> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        let facts = selfpatch_nn::cuda::facts(device)?;
        return Ok(Facts {
            peak_tflops: peak(&facts.name),
            name: facts.name,
            driver: driver(),
            cuda: Some(format!("{}.{}", facts.cuda.0, facts.cuda.1)),
            memory_bytes: Some(facts.memory as u64),
            compute_capability: Some(format!("{}.{}", facts.compute_capability.0, facts.compute_capability.1)),
            multiprocessors: facts.multiprocessors as usize,
            measured_tflops: 0.,
            measured_with: String::new(),
        });
    }
    let name = if device.is_cpu() { "CPU" } else { "GPU without CUDA" };
    Ok(Facts {
        peak_tflops: peak(name),
        name: name.into(),
        driver: None,
        cuda: None,
        memory_bytes: None,
        compute_capability: None,
        multiprocessors: std::thread::available_parallelism().map_or(1, |n| n.get()),
        measured_tflops: 0.,
        measured_with: String::new(),
    })
}

/// The driver's version, which CUDA does not tell: as the kernel's module says, or nvidia-smi.
#[cfg(feature = "cuda")]
fn driver() -> Option<String> {
    let module = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    if let Some(version) = module.lines().next().unwrap_or_default().split_whitespace().find(is_version) {
        return Some(version.into());
    }
    let mut smi = std::process::Command::new("nvidia-smi");
    let output = smi.args(["--query-gpu=driver_version", "--format=csv,noheader"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::trim).filter(is_version).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_found_by_whole_words() {
        assert_eq!(peak("NVIDIA H100 80GB HBM3"), Some(989.4));
        assert_eq!(peak("NVIDIA H100 PCIe"), Some(756.5));
        assert_eq!(peak("NVIDIA A100-SXM4-80GB"), Some(312.));
        assert_eq!(peak("NVIDIA L40S"), Some(362.));
        assert_eq!(peak("NVIDIA L40"), None);
        assert_eq!(peak("NVIDIA GH200 480GB"), Some(989.4));
    }
}
