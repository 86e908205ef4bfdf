//! Scales of the charts.

/// Not NaN, not infinite, and small enough that differences stay finite too.
pub fn drawable(value: f64) -> bool {
    value.abs() < 1e100
}

/// A range and the round numbers in it, with their labels.
pub struct Axis {
    low: f64,
    high: f64,
    /// Values in ascending order with their labels.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to the last step.
    pub fn of_steps(last: u64) -> Self {
        Self::new(0.0, last.max(1) as f64, 1.0)
    }

    /// Around these values, as far as they can be drawn.
    pub fn of_values(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|&v| drawable(v))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return Self::new(0.0, 1.0, 0.0);
        }
        let size = low.abs().max(high.abs());
        let room = if high - low > size * 1e-6 {
            (high - low) * 0.04
        } else if size > 1e-100 {
            size * 0.05
        } else {
            1.0
        };
        Self::new(low - room, high + room, 0.0)
    }

    /// About five ticks at multiples of 1, 2 or 5 times a power of ten, at least `closest`
    /// apart.
    fn new(low: f64, high: f64, closest: f64) -> Self {
        let raw = ((high - low) / 5.5).max(closest);
        let mut exponent = raw.log10().floor() as i32;
        let mut digit = [1.0, 2.0, 5.0].into_iter().find(|d| d * 10_f64.powi(exponent) >= raw * 0.999_999);
        if digit.is_none() {
            exponent += 1;
            digit = Some(1.0);
        }
        let gap = digit.unwrap_or(1.0) * 10_f64.powi(exponent);
        let start = (low / gap).ceil();
        let ticks = (0..=8)
            .map(|i| (start + f64::from(i)) * gap)
            .filter(|&v| v >= low && v <= high)
            .map(|v| (v, tick(v, exponent)))
            .collect();
        Self { low, high, ticks }
    }

    /// Where `value` falls when the range is laid over `from..to`.
    pub fn place(&self, value: f64, from: f64, to: f64) -> f64 {
        from + (value - self.low) / (self.high - self.low) * (to - from)
    }
}

/// `value` with the digits needed where ticks are multiples of ten to the `exponent`.
fn tick(value: f64, exponent: i32) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let size = value.abs().log10().floor() as i32;
    if !(-3..9).contains(&exponent) {
        format!("{value:.*e}", (size - exponent).clamp(0, 6) as usize)
    } else if exponent >= 6 {
        format!("{:.0}M", value / 1e6)
    } else if exponent >= 3 {
        format!("{:.0}k", value / 1e3)
    } else {
        format!("{value:.*}", (-exponent).max(0) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_survive_extreme_values() {
        let labels = |values: &[f64]| -> Vec<String> {
            let axis = Axis::of_values(values.iter().copied());
            assert!(axis.ticks.len() <= 9);
            let inside = |v: f64| (0.0..=1.0).contains(&axis.place(v, 0.0, 1.0));
            assert!(values.iter().all(|&v| !drawable(v) || inside(v)), "{values:?}");
            axis.ticks.into_iter().map(|t| t.1).collect()
        };
        assert_eq!(labels(&[0.0, 5e-4]), ["0", "1e-4", "2e-4", "3e-4", "4e-4", "5e-4"]);
        assert_eq!(labels(&[2.0, 9.0]), ["2", "4", "6", "8"]);
        assert_eq!(labels(&[0.04, 0.4]), ["0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(labels(&[]), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        for values in [
            &[0.0][..],
            &[-3.0],
            &[1e300, f64::NAN],
            &[-1e99, 1e99],
            &[5e-324],
            &[0.0, 5e-324],
            &[1e-320, 3e-320],
            &[1e20, 1e20 + 16384.0],
            &[1e-99, 0.0],
        ] {
            labels(values);
        }
        assert_eq!(Axis::of_steps(0).ticks.len(), 2);
        assert!(Axis::of_steps(u64::MAX).place(1.0, 0.0, 1.0).is_finite());
    }
}
