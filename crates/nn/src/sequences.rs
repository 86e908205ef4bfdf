//! Sequences of different lengths, packed one after the other.

use candle_core::{Result, Tensor, bail};
use std::ops::Range;

/// The lengths of the sequences whose tokens are the rows of one packed tensor `[T, D]`. Linear
/// layers and norms then see all tokens of all crops at once; attention stays within a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    lengths: Vec<usize>,
}

impl Sequences {
    /// `count` sequences of `length` tokens for each pair `(count, length)`, in this order.
    pub fn new(groups: &[(usize, usize)]) -> Self {
        let lengths = groups.iter().flat_map(|&(count, length)| std::iter::repeat_n(length, count)).collect();
        Self { lengths }
    }

    /// Number of sequences.
    pub fn count(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens of each sequence.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Tokens of all sequences, `T`.
    pub fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// The rows of each sequence.
    pub fn rows(&self) -> impl Iterator<Item = Range<usize>> {
        self.lengths.iter().scan(0, |end, &length| {
            let start = *end;
            *end += length;
            Some(start..*end)
        })
    }

    /// Runs of sequences of equal length: `(sequences, length)`.
    pub fn groups(&self) -> Vec<(usize, usize)> {
        self.lengths.chunk_by(|a, b| a == b).map(|run| (run.len(), run[0])).collect()
    }

    /// Tensors of the runs of equal length, `[T, D]` -> `[count, length, D]` each.
    pub fn split(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let (rows, dim) = x.dims2()?;
        self.check(rows)?;
        let mut start = 0;
        self.groups()
            .into_iter()
            .map(|(count, length)| {
                let group = x.narrow(0, start, count * length)?.reshape((count, length, dim));
                start += count * length;
                group
            })
            .collect()
    }

    /// The reverse of [`Sequences::split`]: `[count, length, D]` each -> `[T, D]`.
    pub fn join(groups: &[Tensor]) -> Result<Tensor> {
        let flat = groups.iter().map(|t| t.flatten(0, 1)).collect::<Result<Vec<_>>>()?;
        match &flat[..] {
            [one] => Ok(one.clone()),
            many => Tensor::cat(many, 0),
        }
    }

    /// An error unless a packed tensor has exactly these rows.
    pub(crate) fn check(&self, rows: usize) -> Result<()> {
        if self.lengths.contains(&0) {
            bail!("a sequence without tokens")
        }
        if rows != self.tokens() {
            bail!("{rows} rows do not fit {} sequences with {} tokens", self.count(), self.tokens())
        }
        Ok(())
    }

    /// `data`, rows of `width`, cut into the parts of its sequences, for writing.
    pub(crate) fn cut_mut<'a>(&self, data: &'a mut [f32], width: usize) -> Vec<&'a mut [f32]> {
        cut_mut(data, self.lengths.iter().map(|length| length * width))
    }

    /// The rows of each sequence, for reading.
    pub(crate) fn cut<'a>(&self, data: &'a [f32], width: usize) -> Vec<&'a [f32]> {
        self.rows().map(|rows| &data[rows.start * width..rows.end * width]).collect()
    }
}

/// The first parts of `data` of the given sizes.
pub(crate) fn cut_mut(mut data: &mut [f32], sizes: impl Iterator<Item = usize>) -> Vec<&mut [f32]> {
    sizes
        .map(|size| {
            let (part, rest) = std::mem::take(&mut data).split_at_mut(size);
            data = rest;
            part
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_rows_and_parts_agree() -> Result<()> {
        let s = Sequences::new(&[(2, 3), (1, 4), (2, 1)]);
        assert_eq!((s.count(), s.tokens(), s.groups()), (5, 12, vec![(2, 3), (1, 4), (2, 1)]));
        assert_eq!(s.rows().collect::<Vec<_>>(), [0..3, 3..6, 6..10, 10..11, 11..12]);
        let mut data: Vec<f32> = (0..24).map(|i| i as f32).collect();
        assert_eq!(s.cut(&data, 2)[2][0], 12.);
        assert_eq!(s.cut_mut(&mut data, 2).iter().map(|p| p.len()).collect::<Vec<_>>(), [6, 6, 8, 2, 2]);
        let x = Tensor::from_vec(data, (12, 2), &candle_core::Device::Cpu)?;
        let back = Sequences::join(&s.split(&x)?)?;
        assert_eq!(back.to_vec2::<f32>()?, x.to_vec2::<f32>()?);
        assert!(s.split(&x.narrow(0, 0, 11)?).is_err());
        assert!(Sequences::new(&[(1, 12), (2, 0)]).split(&x).is_err());
        Ok(())
    }
}
