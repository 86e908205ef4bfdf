//! One frame that votes: its tokens as unit vectors, and their labels.

use super::kernel::KEYS;
use crate::Error;

/// Tokens and labels of one frame.
pub(super) struct Context {
    /// Unit vectors by rows of the grid, `[height, D, stride]`: neighbours are adjacent in memory. Columns beyond the
    /// grid are zero.
    units: Vec<f32>,
    dim: usize,
    /// The width of the grid plus padding for one more tile of the kernel.
    stride: usize,
    area: usize,
    /// Soft labels `[area, classes]`.
    votes: Vec<f32>,
    classes: usize,
}

/// Lower bound for the length that features are divided by; reference: `F.normalize`, eps.
const SHORTEST: f32 = 1e-12;

impl Context {
    /// Normalises features `[height * width, D]`; the labels are set later.
    pub(super) fn new((height, width): (usize, usize), features: &[f32]) -> Result<Self, Error> {
        let area = height * width;
        let dim = features.len().checked_div(area).unwrap_or(0);
        if dim == 0 || dim * area != features.len() {
            let expected = format!("{area} tokens x D");
            return Err(Error::shape("features", expected, features.len()));
        }
        let stride = (width + KEYS).next_multiple_of(16);
        let mut units = vec![0.0; height * dim * stride];
        for (token, feature) in features.chunks_exact(dim).enumerate() {
            let norm = length(feature);
            if !norm.is_finite() {
                return Err(Error::NotFinite { token });
            }
            let norm = norm.max(SHORTEST);
            let (row, column) = (token / width, token % width);
            let places = units[row * dim * stride + column..].iter_mut().step_by(stride);
            places.zip(feature).for_each(|(unit, x)| *unit = x / norm);
        }
        Ok(Self { units, dim, stride, area, votes: Vec::new(), classes: 0 })
    }

    /// Sets labels from planes `[C, area]`.
    pub(super) fn label(&mut self, planes: &[f32]) -> Result<(), Error> {
        let area = self.area;
        let classes = planes.len() / area;
        if classes == 0 || classes * area != planes.len() {
            return Err(Error::shape("mask", format!("C x {area} tokens"), planes.len()));
        }
        let token = |t| planes.iter().skip(t).step_by(area).copied();
        self.votes = (0..area).flat_map(token).collect();
        self.classes = classes;
        Ok(())
    }

    /// Sets labels in their storage order, `[area, classes]`.
    pub(super) fn adopt(&mut self, votes: Vec<f32>, classes: usize) {
        self.votes = votes;
        self.classes = classes;
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    pub(super) fn classes(&self) -> usize {
        self.classes
    }

    /// Number of tokens.
    pub(super) fn area(&self) -> usize {
        self.area
    }

    /// Number of columns of a row in memory.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Unit vectors of a row of the grid, `[D, stride]`.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &[f32] {
        let size = self.dim * self.stride;
        &self.units[row * size..(row + 1) * size]
    }

    /// Labels of a token.
    pub(super) fn votes(&self, token: usize) -> &[f32] {
        &self.votes[token * self.classes..(token + 1) * self.classes]
    }
}

/// Euclidean length, summed in eight partial sums.
fn length(vector: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    let (parts, rest) = vector.as_chunks::<8>();
    parts.iter().for_each(|part| sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x * x));
    (sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>()).sqrt()
}
