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

/// Least tolerance of a check on a GPU, which sums in another order, on the scale that the check is on.
const OTHER_ORDER: f64 = 2e-5;
/// Least tolerances where products are in half precision: of values, of gradients, of weights after a step. bf16 has
/// 8 bits, so that every product is rounded by up to 4e-3.
const HALF: (f64, f64, f64) = (5e-2, 1e-1, 1e-4);
/// Fixtures without such products: half precision does not touch them.
const FULL: [&str; 6] = ["droppath", "matching", "loss_2p2", "neighbours", "dino", "selfpatch_total_dino"];
/// What is held closer than this is computed in f64, or exactly.
const OF_F64: f64 = 1e-7;

impl Computing {
    /// The fixtures' own: f32 and f64 on the CPU, with their tolerances.
    pub fn reference() -> Self {
        Self { device: Device::Cpu, precision: Precision::F32 }
    }

    /// Whether products are computed in half precision.
    pub fn is_half(&self) -> bool {
        self.precision != Precision::F32
    }

    /// Whether numbers of this type are computed: half precisions stand beside f32 alone.
    pub fn has(&self, dtype: DType) -> bool {
        dtype != DType::F64 || !self.is_half()
    }

    /// The tolerance of a check whose fixture has `limit`: that, or what this way of computing needs.
    pub fn tolerance(&self, fixture: &str, check: &str, limit: f64) -> f64 {
        let name = fixture.rsplit('/').next().unwrap_or(fixture);
        let (values, gradients, weights) = HALF;
        limit.max(match check {
            _ if limit < OF_F64 || self.device.is_cpu() && !self.is_half() => 0.,
            _ if !self.is_half() || FULL.contains(&name) => OTHER_ORDER,
            _ if check.contains("gradient") => gradients,
            _ if check.contains("weights") => weights,
            _ => values,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_widens_what_it_touches() {
        let at = |precision| Computing { device: Device::Cpu, precision };
        let bf16 = |fixture, check, limit| at(Precision::Bf16).tolerance(fixture, check, limit);
        assert_eq!(at(Precision::F32).tolerance("a/vit", "forward f32", 1e-6), 1e-6);
        assert_eq!(bf16("a/vit", "forward f32", 1e-6), 5e-2);
        assert_eq!(bf16("a/heads", "gradients f32", 1e-6), 1e-1);
        assert_eq!(bf16("a/matching", "similarities f32", 1e-6), 2e-5);
        assert_eq!(bf16("a/train_b", "schedules", 1e-11), 1e-11);
    }
}
