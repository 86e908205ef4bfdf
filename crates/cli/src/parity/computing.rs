//! On which device and in which precision the numbers to compare are computed.

use candle_core::{DType, Device};
use selfpatch_nn::Precision;

/// How numbers are computed, and how close they can come to those of the original program, which were computed in
/// f32 and f64 on a CPU.
#[derive(Clone)]
pub struct Computing {
    /// Where.
    pub device: Device,
    /// What products of matrices are computed in.
    pub precision: Precision,
}

/// Least tolerances of checks on a GPU: of everything, and of gradients, on the scales that the checks are on. Exact
/// checks (integers) stay exact, those in f64 keep the fixtures' tolerance.
const F32: (f64, f64) = (2e-5, 2e-5);
const BF16: (f64, f64) = (2e-2, 5e-2);
const F16: (f64, f64) = (3e-3, 1e-2);

impl Computing {
    /// The fixtures' own: f32 and f64 on the CPU, with their tolerances.
    pub fn reference() -> Self {
        Self { device: Device::Cpu, precision: Precision::F32 }
    }

    /// Whether numbers of this type are computed: half precisions stand beside f32 alone.
    pub fn has(&self, dtype: DType) -> bool {
        dtype != DType::F64 || self.precision == Precision::F32
    }

    /// The least tolerance that a check may have, by its name.
    pub fn least(&self, check: &str) -> f64 {
        let (values, gradients) = match self.precision {
            Precision::Bf16 => BF16,
            Precision::F16 => F16,
            Precision::F32 if self.device.is_cpu() || check.ends_with("f64") => return 0.,
            Precision::F32 => F32,
        };
        if check.contains("gradient") { gradients } else { values }
    }
}
