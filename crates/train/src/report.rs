//! The numbers of one step, which are read from the device all at once.

use crate::network::Rows;
use candle_core::{D, Result, Tensor};
use selfpatch_losses::Sign;
use selfpatch_nn::transfer::Parcel;
use std::ops::Range;

/// Numbers of one step.
#[derive(Clone, Debug, Default)]
pub struct StepReport {
    /// Total, image and patch loss (0 without a patch head).
    pub losses: [f64; 3],
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Numbers of the objectives about the networks, by the names that the log has.
    pub numbers: Vec<(&'static str, f64)>,
    /// Factor of the loss in fp16.
    pub loss_scale: Option<f64>,
    /// Whether the gradients overflowed in fp16: then the student was left as it was.
    pub overflow: bool,
    /// Number of times that the device was read: 1.
    pub transfers: u64,
}

impl StepReport {
    /// The number called `name`, NaN where there is none.
    pub fn number(&self, name: &str) -> f64 {
        self.numbers.iter().find(|(n, _)| *n == name).map_or(f64::NAN, |(_, value)| *value)
    }

    /// The report with the numbers of a part of the batch added, times its `share` of the images.
    pub(crate) fn plus(mut self, part: StepReport, share: f64) -> Self {
        for (sum, loss) in self.losses.iter_mut().zip(part.losses) {
            *sum += share * loss;
        }
        for (name, value) in part.numbers {
            match self.numbers.iter_mut().find(|(n, _)| *n == name) {
                Some((_, sum)) => *sum += share * value,
                None => self.numbers.push((name, share * value)),
            }
        }
        self
    }
}

/// The losses of a part of a batch, scalars.
pub(crate) struct Losses<'a> {
    pub total: &'a Tensor,
    pub class: &'a Tensor,
    pub patch: Option<&'a Tensor>,
}

/// Where the numbers of one part of a batch are in a parcel.
pub(crate) struct Readings {
    /// Total and image loss.
    losses: Range<usize>,
    patch: Range<usize>,
    signs: Vec<(Sign, Range<usize>)>,
}

impl Readings {
    /// Adds the numbers of a part of a batch to `parcel`.
    pub fn of(losses: Losses, signs: Vec<Sign>, parcel: &mut Parcel) -> Result<Self> {
        let (total, class) = (parcel.add(losses.total)?, parcel.add(losses.class)?);
        let patch = match losses.patch {
            Some(patch) => parcel.add(patch)?,
            None => 0..0,
        };
        let placed = |sign: Sign| {
            let place = parcel.add(&sign.values)?;
            Ok((sign, place))
        };
        Ok(Self { losses: total.start..class.end, patch, signs: signs.into_iter().map(placed).collect::<Result<_>>()? })
    }

    /// The numbers, from all values of the parcel.
    pub fn read(&self, values: &[f64]) -> StepReport {
        let losses = &values[self.losses.clone()];
        let patch = values[self.patch.clone()].first().copied().unwrap_or(0.);
        let numbers = self.signs.iter().flat_map(|(sign, place)| {
            let read = (sign.read)(&values[place.clone()]);
            sign.names.iter().copied().zip(read)
        });
        StepReport { losses: [losses[0], losses[1], patch], numbers: numbers.collect(), ..StepReport::default() }
    }
}

/// Mean cosine of the student's patch embeddings with their targets; `None` without a patch head.
pub(crate) fn patch_agreement(student: &Rows, teacher: &Rows) -> Result<Option<Sign>> {
    let (Some(s), Some(t)) = (&student.patch, &teacher.patch) else { return Ok(None) };
    let read = Box::new(|v: &[f64]| v.to_vec());
    Ok(Some(Sign { names: &["patch_agreement"], values: cosine(&s.rows, &t.rows)?, read }))
}

/// Mean cosine of the rows of two `[R, D]`, of unit length both.
fn cosine(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    (a.detach() * b.detach())?.sum(D::Minus1)?.mean_all()
}
