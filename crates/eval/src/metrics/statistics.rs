//! What a series of per-frame values is reduced to.

/// Mean, recall and decay of one object over its frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// Mean of the values that are numbers.
    pub mean: f64,
    /// Share of frames with a value strictly above 0.5; NaN counts as a miss.
    pub recall: f64,
    /// Mean of the first quarter less mean of the last: positive if the value falls over time.
    pub decay: f64,
}

/// Statistics as DAVIS's `db_statistics`, for any number of frames.
///
/// Neighbouring quarters share the frame between them. The reference keeps the ids of these
/// frames in 8 bits and returns NaN, or nonsense, from 256 frames on; this does not. Without any
/// value all three are NaN.
pub fn statistics(values: &[f64]) -> Statistics {
    let n = values.len();
    let above = values.iter().filter(|&&x| x > 0.5).count();
    // Frame k quarters into the video, halves rounded up: round(linspace(1, n, 5) + 1e-10) - 1.
    let frame = |quarter: usize| (quarter * n.saturating_sub(1) + 2) / 4;
    let bin = |quarter: usize| {
        mean(values.get(frame(quarter)..=frame(quarter + 1)).unwrap_or_default())
    };
    Statistics { mean: mean(values), recall: above as f64 / n as f64, decay: bin(0) - bin(3) }
}

/// Mean of what is not NaN; NaN if nothing is left.
fn mean(values: &[f64]) -> f64 {
    let (mut sum, mut count) = (0.0, 0_usize);
    for value in values.iter().filter(|x| !x.is_nan()) {
        sum += value;
        count += 1;
    }
    sum / count as f64
}
