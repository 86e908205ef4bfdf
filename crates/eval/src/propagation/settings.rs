//! Settings of the propagation.

use crate::Error;

/// Settings of the propagation. The defaults are the reference's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Propagation {
    /// Number of preceding frames that vote in addition to the first; with 0 only the first votes.
    pub n_last_frames: usize,
    /// Radius of the window in tokens, 12 being a window of 25 x 25; 0 means the whole frame.
    pub neighbourhood: usize,
    /// Context tokens that vote per target token; ties with the last vote in addition.
    pub top_k: usize,
    /// Divisor of the cosine similarity in the exponent.
    pub temperature: f32,
}

impl Default for Propagation {
    fn default() -> Self {
        Self {
            n_last_frames: 7,  // reference: --n_last_frames
            neighbourhood: 12, // reference: --size_mask_neighborhood
            top_k: 5,          // reference: --topk
            temperature: 0.1,  // reference: label_propagation, exp(aff / 0.1)
        }
    }
}

/// Lowest temperature; below it, `exp(1 / temperature)` summed over a frame exceeds the range of `f32`.
const COLDEST: f32 = 0.0125;

impl Propagation {
    /// Checks that the settings can be used.
    ///
    /// # Errors
    /// [`Error::Config`] if `top_k` is 0 or the temperature is not a number of at least 0.0125.
    pub fn validate(&self) -> Result<(), Error> {
        if self.top_k == 0 {
            return Err(Error::Config {
                field: "top_k",
                reason: "0 tokens cannot vote; use at least 1 (the reference uses 5)".into(),
            });
        }
        if !self.temperature.is_finite() || self.temperature < COLDEST {
            return Err(Error::Config {
                field: "temperature",
                reason: format!(
                    "{} is not a finite number of at least {COLDEST} (the reference uses 0.1)",
                    self.temperature
                ),
            });
        }
        Ok(())
    }
}
