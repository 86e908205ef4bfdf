//! Statistics of a series of per-frame values.

/// Mean, recall and decay of one object over its frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// Mean of the values that are not NaN.
    pub mean: f64,
    /// Fraction of frames with a value strictly above 0.5; NaN counts as a miss.
    pub recall: f64,
    /// Mean of the first quarter minus mean of the last: positive if the value falls over time.
    pub decay: f64,
}

/// Statistics as in DAVIS's `db_statistics`, for any number of frames.
///
/// Neighbouring quarters share the frame between them. The reference keeps the indices of these frames in 8 bits and
/// returns NaN, or nonsense, from 256 frames on; this function does not. Without any value all three are NaN.
pub fn statistics(values: &[f64]) -> Statistics {
    let n = values.len();
    let above = values.iter().filter(|&&x| x > 0.5).count();
    // Frame k quarters into the video, halves rounded up: round(linspace(1, n, 5) + 1e-10) - 1.
    let frame = |quarter: usize| (quarter * n.saturating_sub(1) + 2) / 4;
    let bin = |quarter: usize| mean(values.get(frame(quarter)..=frame(quarter + 1)).unwrap_or_default());
    Statistics { mean: mean(values), recall: above as f64 / n as f64, decay: bin(0) - bin(3) }
}

/// Mean of the values that are not NaN; NaN if there are none.
fn mean(values: &[f64]) -> f64 {
    let (mut sum, mut count) = (0.0, 0_usize);
    for value in values.iter().filter(|x| !x.is_nan()) {
        sum += value;
        count += 1;
    }
    sum / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(values: &[f64], expected: [f64; 3]) {
        let Statistics { mean, recall, decay } = statistics(values);
        for (got, want) in [mean, recall, decay].into_iter().zip(expected) {
            assert!((got - want).abs() < 1e-12, "{values:?}: {got} {want}"); // f64 rounding
        }
    }

    /// Values and results of the reference's `db_statistics`; a value of 0.5 is not recalled.
    #[test]
    fn agrees_with_the_reference() {
        close(
            &[0.5, 0.6221087710398319, 0.4377277390071145],
            [0.519945503348982, 0.3333333333333333, 0.12332664651280145],
        );
        close(
            &[0.771359918862401, 0.8606697713776872, 0.5, 0.198518759026171],
            [0.5826371123165648, 0.5, 0.4667554656069586],
        );
        close(
            &[
                0.3648859839013723,
                0.6153961784334937,
                0.07538124164297655,
                0.3688240060019745,
                0.9331401019825216,
                0.6513781432265774,
                0.3972025777261542,
                0.5,
                0.31683612216887125,
            ],
            [0.4692271505648823, 0.3333333333333333, -0.052791765305727656],
        );
    }

    #[test]
    fn numbers_that_are_none_are_left_out() {
        close(&[f64::NAN, 0.75, 0.25, 0.25, 0.25], [0.375, 0.2, 0.5]);
        let nothing = statistics(&[]);
        assert!(nothing.mean.is_nan() && nothing.recall.is_nan() && nothing.decay.is_nan());
        assert!(statistics(&[f64::NAN; 4]).mean.is_nan());
    }

    #[test]
    fn long_videos_have_a_decay() {
        // Falls by 1 per frame: the mean of the first quarter is three quarters above the last.
        let falling: Vec<f64> = (0..1001).map(|i| f64::from(1000 - i)).collect();
        close(&falling, [500.0, 1000.0 / 1001.0, 750.0]);
        assert_eq!(statistics(&[0.25]).decay, 0.0);
    }
}
