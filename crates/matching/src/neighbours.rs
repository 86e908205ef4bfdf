//! The patches that are neighbours on a grid.

use candle_core::{Result, bail};
use serde::{Deserialize, Serialize};

/// What happens at the border of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Border {
    /// Windows wrap around, so that every patch has the same number of neighbours. This is what the reference does
    /// (`get_local_index`: indices modulo the side); 164 of the 1568 pairs of a 14 x 14 grid join opposite edges.
    #[default]
    Torus,
    /// Windows are clipped at the border: a corner has 3 neighbours in a 3 x 3 window.
    Clipped,
}

/// The neighbours of every patch of a grid: row-major patch numbers, ascending, centre excluded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbours {
    rows: usize,
    cols: usize,
    /// Largest number of neighbours of any patch.
    width: usize,
    /// `[rows * cols, width]`; rows of patches with fewer neighbours are padded with [`Neighbours::NONE`].
    table: Vec<u32>,
    counts: Vec<u32>,
}

impl Neighbours {
    /// Stands for a missing neighbour.
    pub const NONE: u32 = u32::MAX;

    /// Largest number of pairs of a patch and a neighbour: a 90 x 90 torus with windows over the whole grid.
    const MOST: usize = 1 << 26;

    /// Neighbours within a `window x window` square around each patch; `window` must be odd.
    pub fn new(rows: usize, cols: usize, window: usize, border: Border) -> Result<Self> {
        if window.is_multiple_of(2) || window < 3 {
            bail!("window: {window} is not an odd number of at least 3")
        }
        if rows == 0 || cols == 0 || rows.saturating_mul(cols) >= Self::NONE as usize {
            bail!("a grid of {rows} x {cols} patches has no neighbourhoods")
        }
        // A window beyond the grid reaches nothing new, on a torus one beyond half of it.
        let reach = |side: usize| (window / 2).min(if border == Border::Torus { side / 2 } else { side - 1 });
        let (down, across) = (reach(rows), reach(cols));
        let places = (2 * down + 1).saturating_mul(2 * across + 1).saturating_mul(rows * cols);
        if places > Self::MOST {
            bail!(
                "a window of {window} x {window} around each of {rows} x {cols} patches has {places} places in all, more \
                 than {}; take larger patches or a smaller window",
                Self::MOST
            )
        }
        let lists: Vec<Vec<u32>> = (0..rows * cols)
            .map(|cell| {
                let (y, x) = ((cell / cols) as isize, (cell % cols) as isize);
                let (down, across) = (down as isize, across as isize);
                let mut near: Vec<u32> = (-down..=down)
                    .flat_map(|dy| (-across..=across).map(move |dx| (y + dy, x + dx)))
                    .filter_map(|(y, x)| at(y, x, rows, cols, border))
                    .filter(|&n| n != cell)
                    .map(|n| n as u32)
                    .collect();
                near.sort_unstable();
                near.dedup(); // a window wider than the torus meets a patch more than once
                near
            })
            .collect();
        let width = lists.iter().map(Vec::len).max().unwrap_or(0);
        let counts = lists.iter().map(|l| l.len() as u32).collect();
        let table = lists
            .into_iter()
            .flat_map(|mut l| {
                l.resize(width, Self::NONE);
                l
            })
            .collect();
        Ok(Self { rows, cols, width, table, counts })
    }

    /// Rows and columns of the grid.
    pub fn grid(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Number of patches `N`.
    pub fn patches(&self) -> usize {
        self.rows * self.cols
    }

    /// Largest number of neighbours `M` of any patch.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Neighbours of one patch.
    pub fn of(&self, patch: usize) -> &[u32] {
        &self.table[patch * self.width..][..self.counts[patch] as usize]
    }

    /// The whole table, `[N, M]` row-major, with [`Neighbours::NONE`] where a patch has fewer.
    pub fn table(&self) -> &[u32] {
        &self.table
    }

    /// Whether every patch has `M` neighbours.
    pub fn is_full(&self) -> bool {
        self.counts.iter().all(|&c| c as usize == self.width)
    }
}

/// The patch number at a position that may lie outside the grid; `None` beyond a clipped border.
fn at(y: isize, x: isize, rows: usize, cols: usize, border: Border) -> Option<usize> {
    let (h, w) = (rows as isize, cols as isize);
    match border {
        Border::Torus => Some((y.rem_euclid(h) * w + x.rem_euclid(w)) as usize),
        Border::Clipped => ((0..h).contains(&y) && (0..w).contains(&x)).then_some((y * w + x) as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_row_of_the_reference() -> Result<()> {
        let n = Neighbours::new(14, 14, 3, Border::Torus)?;
        assert_eq!(n.of(0), [1, 13, 14, 15, 27, 182, 183, 195]);
        Ok(())
    }

    #[test]
    fn clipped_corners_have_three() -> Result<()> {
        let n = Neighbours::new(3, 4, 3, Border::Clipped)?;
        assert_eq!(n.of(0), [1, 4, 5]);
        assert_eq!(n.of(5), [0, 1, 2, 4, 6, 8, 9, 10]);
        assert!(!n.is_full() && n.width() == 8);
        Ok(())
    }

    #[test]
    fn every_grid_is_symmetric_sorted_and_without_itself() -> Result<()> {
        for (rows, cols) in [(1, 1), (1, 2), (2, 2), (3, 3), (4, 6), (5, 3), (7, 7)] {
            for window in [3, 5, 9] {
                for border in [Border::Torus, Border::Clipped] {
                    let n = Neighbours::new(rows, cols, window, border)?;
                    for p in 0..n.patches() {
                        let near = n.of(p);
                        assert!(near.windows(2).all(|w| w[0] < w[1]) && !near.contains(&(p as u32)));
                        assert!(near.iter().all(|&q| n.of(q as usize).contains(&(p as u32))));
                    }
                    assert!(border == Border::Clipped || n.is_full());
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_window_beyond_the_grid_is_the_whole_grid() -> Result<()> {
        for border in [Border::Torus, Border::Clipped] {
            let whole = Neighbours::new(3, 5, 1_000_001, border)?;
            assert!((0..15).all(|p| whole.of(p).len() == 14));
        }
        Ok(())
    }

    #[test]
    fn tables_beyond_memory_are_refused() {
        for (rows, cols, window) in [(4096, 4096, 4095), (1 << 40, 1 << 40, 3), (200, 200, 201)] {
            assert!(Neighbours::new(rows, cols, window, Border::Torus).is_err(), "{rows} {cols} {window}");
        }
    }

    #[test]
    fn even_windows_are_refused() {
        assert!(Neighbours::new(4, 4, 2, Border::Torus).is_err());
        assert!(Neighbours::new(4, 4, 1, Border::Torus).is_err());
    }
}
