//! The pixels of one object, and J, the overlap of two such regions.

use crate::Error;
use selfpatch_datasets::Mask;

/// The pixels of one object in one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    width: usize,
    height: usize,
    inside: Vec<bool>,
}

impl Region {
    /// A region from its pixels `[height, width]`, row by row.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of pixels is not `width * height`.
    pub fn new(width: usize, height: usize, inside: Vec<bool>) -> Result<Self, Error> {
        if inside.len() != width * height {
            return Err(Error::shape("region", format!("{height} x {width}"), inside.len()));
        }
        Ok(Self { width, height, inside })
    }

    /// The pixels of `mask` that have this id.
    ///
    /// # Errors
    /// [`Error::Shape`] if the mask does not have an id for each pixel.
    pub fn of(mask: &Mask, id: u8) -> Result<Self, Error> {
        Self::new(mask.width, mask.height, mask.ids.iter().map(|&x| x == id).collect())
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Whether each pixel belongs to the object, `[height, width]`.
    pub fn inside(&self) -> &[bool] {
        &self.inside
    }

    /// A region of the same size with other pixels.
    pub(super) fn with(&self, inside: Vec<bool>) -> Self {
        Self { inside, ..*self }
    }

    /// Fails unless both regions have the same size.
    pub(super) fn same_size(&self, other: &Self) -> Result<(), Error> {
        if (self.width, self.height) != (other.width, other.height) {
            return Err(Error::shape(
                "region to compare",
                format!("{} x {}", self.height, self.width),
                format!("{} x {}", other.height, other.width),
            ));
        }
        Ok(())
    }
}

/// J: intersection over union of the two regions, 1 if both are empty.
///
/// # Errors
/// [`Error::Shape`] if the sizes differ.
pub fn region_similarity(truth: &Region, guess: &Region) -> Result<f64, Error> {
    truth.same_size(guess)?;
    let (mut both, mut any) = (0_usize, 0_usize);
    for (&a, &b) in truth.inside.iter().zip(&guess.inside) {
        both += usize::from(a & b);
        any += usize::from(a | b);
    }
    Ok(if any == 0 { 1.0 } else { both as f64 / any as f64 })
}
