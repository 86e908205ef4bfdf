//! One frame that votes: its tokens as unit vectors, and their labels.

use super::kernel::{LANES, dot_self};
use crate::Error;

/// Tokens and labels of one frame, token by token.
pub(super) struct Context {
    /// Unit vectors `[area, stride]`; the entries from `dim` on are zero.
    units: Vec<f32>,
    dim: usize,
    /// `dim` rounded up to whole vectors of the kernel.
    stride: usize,
    /// Soft labels `[area, classes]`.
    votes: Vec<f32>,
    classes: usize,
}

/// Shorter features are divided by this; reference: `F.normalize`, eps.
const SHORTEST: f32 = 1e-12;

impl Context {
    /// Normalises features `[area, D]`; the labels come later.
    pub(super) fn new(area: usize, features: &[f32]) -> Result<Self, Error> {
        let dim = features.len().checked_div(area).unwrap_or(0);
        if dim == 0 || dim * area != features.len() {
            let expected = format!("{area} tokens x D");
            return Err(Error::shape("features", expected, features.len()));
        }
        let stride = dim.next_multiple_of(LANES);
        let mut units = vec![0.0; area * stride];
        let tokens = features.chunks_exact(dim).zip(units.chunks_exact_mut(stride));
        for (token, (feature, unit)) in tokens.enumerate() {
            unit[..dim].copy_from_slice(feature);
            let norm = dot_self(unit).sqrt();
            if !norm.is_finite() {
                return Err(Error::NotFinite { token });
            }
            let norm = norm.max(SHORTEST);
            for x in unit {
                *x /= norm;
            }
        }
        Ok(Self { units, dim, stride, votes: Vec::new(), classes: 0 })
    }

    /// Takes labels as planes `[C, area]`.
    pub(super) fn label(&mut self, planes: &[f32]) -> Result<(), Error> {
        let area = self.units.len() / self.stride;
        let classes = planes.len() / area;
        if classes == 0 || classes * area != planes.len() {
            return Err(Error::shape("mask", format!("C x {area} tokens"), planes.len()));
        }
        let token = |t| planes.iter().skip(t).step_by(area).copied();
        self.votes = (0..area).flat_map(token).collect();
        self.classes = classes;
        Ok(())
    }

    /// Takes labels as they are stored, `[area, classes]`.
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
        self.units.len() / self.stride
    }

    /// Unit vector of a token.
    #[inline]
    pub(super) fn unit(&self, token: usize) -> &[f32] {
        &self.units[token * self.stride..(token + 1) * self.stride]
    }

    /// Labels of a token.
    pub(super) fn votes(&self, token: usize) -> &[f32] {
        &self.votes[token * self.classes..(token + 1) * self.classes]
    }
}
