//! What a survey finds.

use serde::Serialize;
use std::collections::BTreeMap;

/// A set of images in numbers.
#[derive(Debug, Default, Serialize)]
pub struct Survey {
    /// Images of the source.
    pub images: usize,
    /// Images that were read.
    pub read: usize,
    /// Images per kind: format, channels, bits.
    pub formats: BTreeMap<String, usize>,
    /// Columns of the images that can be used.
    pub width: Spread,
    /// Rows likewise.
    pub height: Spread,
    /// Bytes of the files that were read; of pixels where a source has no files.
    pub bytes: u64,
    /// Images per class, among all.
    pub classes: Vec<(String, usize)>,
    /// Images that cannot be used.
    pub bad: Vec<Named>,
    /// Images whose name promises another format.
    pub mislabelled: Vec<Named>,
    /// Mean of each channel, between 0 and 1; every image counts the same.
    pub mean: Vec<f64>,
    /// Standard deviation likewise.
    pub std: Vec<f64>,
    /// The smallest and the largest value met, as the files hold them.
    pub values: [f64; 2],
    /// What a user should know about the settings.
    pub advice: Vec<String>,
}

/// A sample and what is wrong with it.
#[derive(Clone, Debug, Serialize)]
pub struct Named {
    /// Name of the sample.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The range of a number.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Spread {
    /// The least value.
    pub least: usize,
    /// The value in the middle of all in their order.
    pub median: usize,
    /// The greatest value.
    pub most: usize,
}

impl Spread {
    /// The least, the median and the greatest of all values; zeros where there are none.
    pub(super) fn of(mut values: Vec<usize>) -> Self {
        values.sort_unstable();
        match (values.first(), values.last()) {
            (Some(&least), Some(&most)) => Self { least, median: values[values.len() / 2], most },
            _ => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_its_median() {
        let s = Spread::of(vec![5, 1, 9]);
        assert_eq!((s.least, s.median, s.most), (1, 5, 9));
        assert_eq!(Spread::of(Vec::new()).most, 0);
    }
}
