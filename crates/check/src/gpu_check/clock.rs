//! The time that the check may take.

use std::time::{Duration, Instant};

/// Clock that runs from the start of the check to its end.
pub struct Clock {
    start: Instant,
    end: Instant,
}

impl Clock {
    /// Starts a clock that ends after `most`.
    pub fn new(most: Duration) -> Self {
        let start = Instant::now();
        Self { start, end: start + most }
    }

    /// Seconds since the start.
    pub fn passed(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Time that is left.
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// A part of the time that is left.
    pub fn share(&self, part: f64) -> Duration {
        self.left().mul_f64(part)
    }

    /// The moment `time` from now.
    pub fn at(&self, time: Duration) -> Instant {
        Instant::now() + time
    }
}
