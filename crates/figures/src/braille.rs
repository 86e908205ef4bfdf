//! A curve in characters of two by four dots each.

/// Values drawn in a grid of characters, and what its lower and upper edge stand for.
pub struct Chart {
    /// The rows, top to bottom.
    pub rows: Vec<String>,
    /// The value at the lower edge.
    pub low: f64,
    /// The value at the upper edge.
    pub high: f64,
}

/// `values` from left to right over `width` x `height` characters, neighbours averaged where there are
/// more values than columns of dots. What is non-finite is a gap; `None` if nothing else is there.
pub fn chart(values: &[f64], width: usize, height: usize) -> Option<Chart> {
    let count = values.len().min(2 * width);
    let column = |i: usize| {
        let group = &values[i * values.len() / count..(i + 1) * values.len() / count];
        let (sum, n) = group.iter().filter(|v| v.is_finite()).fold((0.0, 0), |(sum, n), v| (sum + v, n + 1));
        (n > 0).then(|| sum / f64::from(n))
    };
    let columns: Vec<Option<f64>> = (0..count).map(column).collect();
    let low = columns.iter().flatten().copied().reduce(f64::min)?;
    let high = columns.iter().flatten().copied().reduce(f64::max)?;
    let dots = 4 * height;
    let row = |value: f64| {
        let part = if high > low { (value - low) / (high - low) } else { 0.5 };
        ((1.0 - part) * (dots - 1) as f64).round() as usize
    };
    let mut cells = vec![vec![0_u8; width]; height];
    let mut before = None;
    for (x, value) in columns.iter().enumerate() {
        let here = value.map(row);
        if let Some(y) = here {
            // From the neighbour's height to this one's, so that steep curves hang together.
            let from = before.unwrap_or(y);
            let between = if from < y { from + 1..=y } else { y..=from.saturating_sub(1).max(y) };
            between.for_each(|y| cells[y / 4][x / 2] |= dot(x % 2, y % 4));
        }
        before = here;
    }
    let text = |row: &Vec<u8>| row.iter().filter_map(|&dots| char::from_u32(0x2800 + u32::from(dots))).collect();
    Some(Chart { rows: cells.iter().map(text).collect(), low, high })
}

/// The bit of one dot in Unicode's braille patterns.
fn dot(x: usize, y: usize) -> u8 {
    const BITS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
    BITS[x][y]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_falling_line_falls() {
        let values: Vec<f64> = (0..8).rev().map(f64::from).collect();
        let c = chart(&values, 4, 2).unwrap();
        assert_eq!((c.low, c.high), (0.0, 7.0));
        assert_eq!(c.rows, ["⠑⢄⠀⠀", "⠀⠀⠑⢄"]);
    }

    #[test]
    fn many_values_are_averaged_and_gaps_stay() {
        let mut values = vec![1.0; 500];
        values.extend([f64::NAN; 500]);
        values.extend([3.0; 500]);
        let c = chart(&values, 3, 1).unwrap();
        assert_eq!((c.low, c.high), (1.0, 3.0));
        assert_eq!(c.rows, ["⣀⠀⠉"]);
        assert!(chart(&[f64::NAN], 3, 1).is_none() && chart(&[], 3, 1).is_none());
    }

    #[test]
    fn steep_curves_hang_together_and_flat_ones_lie_in_the_middle() {
        assert_eq!(chart(&[0.0, 1.0], 1, 1).unwrap().rows, ["⡸"]);
        assert_eq!(chart(&[1.0, 0.0], 1, 1).unwrap().rows, ["⢱"]);
        assert_eq!(chart(&[2.0, 2.0], 1, 1).unwrap().rows, ["⠤"]);
    }
}
