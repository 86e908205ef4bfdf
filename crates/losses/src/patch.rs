//! SelfPatch's patch objective.

use crate::Center;
use candle_core::{DType, Device, Result, Tensor, bail};
use selfpatch_nn::ops::{self, Projected, Temperatures};

/// Consecutive rows of a batch of patches that belong to crops of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropGroup {
    /// Number of crops.
    pub crops: usize,
    /// Rows per crop: images times patches per image.
    pub rows: usize,
}

/// What one call of [`PatchLoss::loss`] gives.
#[derive(Clone, Debug)]
pub struct PatchTerm {
    /// The loss, a scalar, with gradient to the student's logits.
    pub loss: Tensor,
    /// Mean of the teacher's rows, `[1, P]`: what moves the centre.
    pub teacher_mean: Tensor,
}

/// Cross-entropy between each aggregated teacher patch and the student patch at the same place of
/// the same crop.
#[derive(Clone, Debug)]
pub struct PatchLoss {
    /// Temperature of the student; 0.1.
    pub student_temp: f64,
    center: Center,
}

impl PatchLoss {
    /// The published settings for `classes` patch prototypes.
    pub fn new(classes: usize, center_momentum: f64, dtype: DType, device: &Device) -> Result<Self> {
        Ok(Self { student_temp: 0.1, center: Center::new(classes, center_momentum, dtype, device)? })
    }

    /// The patch loss: mean over crops of the mean over a crop's rows (QUIRKS 9), so crops weigh the same
    /// whatever their number of patches. `student`, `teacher`: rows before their prototypes, crops in the
    /// order of `groups`.
    pub fn loss(
        &self,
        student: &Projected,
        teacher: &Projected,
        groups: &[CropGroup],
        teacher_temp: f64,
    ) -> Result<PatchTerm> {
        let weights = weights(groups, student.rows.dim(0)?)?;
        let temperatures = Temperatures { student: self.student_temp, teacher: teacher_temp };
        let center = self.center.value();
        let (loss, teacher_mean) = ops::projected_cross_entropy(student, teacher, center, &weights, temperatures)?;
        Ok(PatchTerm { loss, teacher_mean })
    }

    /// The patch loss from logits, `[R, P]` each.
    pub fn loss_of_logits(
        &self,
        student: &Tensor,
        teacher: &Tensor,
        groups: &[CropGroup],
        teacher_temp: f64,
    ) -> Result<PatchTerm> {
        let weights = weights(groups, student.dim(0)?)?;
        let temperatures = Temperatures { student: self.student_temp, teacher: teacher_temp };
        let center = self.center.value();
        let (loss, teacher_mean) = ops::matched_cross_entropy(student, teacher, center, &weights, temperatures)?;
        Ok(PatchTerm { loss, teacher_mean })
    }

    /// Moves the centre by the mean over all tokens of all crops (QUIRKS 10: here crops weigh by their
    /// number of patches); once per step, after the loss.
    pub fn commit(&mut self, teacher_mean: &Tensor) -> Result<()> {
        self.center.update(teacher_mean)
    }

    /// The centre, `[1, P]`.
    pub fn center(&self) -> &Center {
        &self.center
    }

    /// The centre, to be restored when a run is resumed.
    pub fn center_mut(&mut self) -> &mut Center {
        &mut self.center
    }
}

/// Weight of each row, so that crops weigh alike.
fn weights(groups: &[CropGroup], rows: usize) -> Result<Vec<f64>> {
    let (crops, total) = groups.iter().fold((0, 0), |(c, r), g| (c + g.crops, r + g.crops * g.rows));
    if total != rows {
        bail!("{rows} rows of patches do not fit crops with {total}")
    }
    Ok(groups.iter().flat_map(|g| std::iter::repeat_n(1. / (crops * g.rows) as f64, g.crops * g.rows)).collect())
}
