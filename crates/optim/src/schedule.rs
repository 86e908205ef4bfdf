//! Values over the steps of a run, as pure functions of the step.

use std::f64::consts::PI;

/// Linear warm-up, then a half cosine from `base` to `last` (`utils.cosine_scheduler`).
///
/// The first value is `warmup_from`, `base` is reached on the last warm-up step and repeated by the
/// first cosine step, and `last` is never quite reached (QUIRKS 16).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cosine {
    /// Value after the warm-up.
    pub base: f64,
    /// Value approached at the end.
    pub last: f64,
    /// Steps of the whole run.
    pub steps: usize,
    /// Steps of the warm-up.
    pub warmup_steps: usize,
    /// First value of the warm-up.
    pub warmup_from: f64,
}

impl Cosine {
    /// A schedule without a warm-up.
    pub fn new(base: f64, last: f64, steps: usize) -> Self {
        Self { base, last, steps, warmup_steps: 0, warmup_from: 0. }
    }

    /// The schedule with a warm-up from zero.
    pub fn with_warmup(self, warmup_steps: usize) -> Self {
        Self { warmup_steps, ..self }
    }

    /// The value at `step`, counted from 0.
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            let last = (self.warmup_steps - 1).max(1) as f64;
            return self.warmup_from + (self.base - self.warmup_from) * step as f64 / last;
        }
        let (i, n) = (step - self.warmup_steps, self.steps.saturating_sub(self.warmup_steps).max(1));
        self.last + 0.5 * (self.base - self.last) * (1. + (PI * i as f64 / n as f64).cos())
    }
}
