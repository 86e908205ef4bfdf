//! The numbers of one step, which are read from the device all at once.

use crate::health::{Health, Signs};
use crate::network::{Logits, Targets};
use crate::step::Loss;
use candle_core::Result;
use selfpatch_nn::transfer::Parcel;
use std::ops::Range;

/// Numbers of one step.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepReport {
    /// Total, class and patch loss (0 without a patch head).
    pub losses: [f64; 3],
    /// Mean entropy of the teacher's class outputs, in nats.
    pub teacher_entropy: f64,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// How teacher and student are doing.
    pub health: Health,
    /// What the loss was multiplied with, in fp16.
    pub loss_scale: Option<f64>,
    /// Whether the gradients overflowed in fp16: then the student was left as it was.
    pub overflow: bool,
    /// Readings of the device: 1.
    pub transfers: u64,
}

impl StepReport {
    /// `self` and a part of the batch with its share of the images.
    pub(crate) fn plus(self, part: StepReport, share: f64) -> Self {
        Self {
            losses: std::array::from_fn(|i| self.losses[i] + share * part.losses[i]),
            teacher_entropy: self.teacher_entropy + share * part.teacher_entropy,
            health: self.health.plus(part.health, share),
            ..self
        }
    }
}

/// Where the numbers of one part of a batch are in a parcel.
pub(crate) struct Numbers {
    /// Total and class loss.
    losses: Range<usize>,
    patch: Range<usize>,
    teacher_entropy: Range<usize>,
    signs: Signs,
}

impl Numbers {
    /// Adds them to `parcel`.
    pub fn of(loss: &Loss, student: &Logits, teacher: &Targets, parcel: &mut Parcel) -> Result<Self> {
        let (total, class) = (parcel.add(&loss.total)?, parcel.add(&loss.class)?);
        let patch = match &loss.patch {
            Some(patch) => parcel.add(patch)?,
            None => 0..0,
        };
        Ok(Self {
            losses: total.start..class.end,
            patch,
            teacher_entropy: parcel.add(&loss.teacher_entropy)?,
            signs: Signs::of(student, teacher, parcel)?,
        })
    }

    /// Them, from what was read.
    pub fn read(&self, values: &[f64]) -> StepReport {
        let first = |place: &Range<usize>| values[place.clone()].first().copied().unwrap_or(0.);
        let losses = &values[self.losses.clone()];
        StepReport {
            losses: [losses[0], losses[1], first(&self.patch)],
            teacher_entropy: first(&self.teacher_entropy),
            health: self.signs.read(values),
            ..StepReport::default()
        }
    }
}
