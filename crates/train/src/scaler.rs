//! Scaling of the loss, which keeps the gradients of half precision (fp16) within its small range.

use serde::{Deserialize, Serialize};

/// What the loss is multiplied with, moved by the rules of PyTorch's `GradScaler`: halved after a step whose
/// gradients overflow, doubled after 2,000 steps in a row without one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    /// The factor, a power of two: dividing gradients by it rounds nothing.
    pub scale: f64,
    /// Steps since the factor was last changed.
    pub good_steps: u32,
}

/// Steps without overflow after which the factor is doubled.
pub const GROWTH_INTERVAL: u32 = 2000;

impl Default for Scaler {
    fn default() -> Self {
        Self { scale: 65536., good_steps: 0 }
    }
}

impl Scaler {
    /// Counts a step without overflow.
    pub fn advance(&mut self) {
        self.good_steps += 1;
        if self.good_steps == GROWTH_INTERVAL {
            // Twice the greatest number of f32 would be none.
            *self = Self { scale: (2. * self.scale).min(2f64.powi(127)), good_steps: 0 };
        }
    }

    /// Halves the factor after an overflow. False if it would fall below 1: then the factor is not at fault.
    #[must_use]
    pub fn back_off(&mut self) -> bool {
        let can = self.scale >= 2.;
        if can {
            *self = Self { scale: self.scale / 2., good_steps: 0 };
        }
        can
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_after_an_overflow_and_doubles_after_many_good_steps() {
        let mut scaler = Scaler::default();
        for _ in 0..5 {
            scaler.advance();
        }
        assert!(scaler.back_off());
        assert_eq!(scaler, Scaler { scale: 32768., good_steps: 0 });
        for _ in 1..GROWTH_INTERVAL {
            scaler.advance();
        }
        assert_eq!(scaler.scale, 32768.);
        scaler.advance();
        assert_eq!(scaler, Scaler { scale: 65536., good_steps: 0 });
        let halvings = std::iter::from_fn(|| scaler.back_off().then_some(())).count();
        assert_eq!((halvings, scaler.scale), (16, 1.));
    }
}
