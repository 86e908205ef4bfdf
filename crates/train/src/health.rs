//! Numbers of one step that tell whether a run is well; they cost next to nothing.

use crate::network::{Logits, Targets};
use candle_core::{D, DType, Result, Tensor};
use selfpatch_nn::ops;
use selfpatch_nn::transfer::Parcel;
use std::collections::HashSet;
use std::ops::Range;

/// How teacher and student are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    /// Class prototypes that win at least one of the teacher's global views, as a part of how many could: one
    /// per view, or all.
    pub prototypes_used: f64,
    /// Mean standard deviation of the entries of the teacher's unit-length class embeddings over the global
    /// views, times the square root of their width: 1 for directions spread evenly, 0 when all are alike.
    pub feature_std: f64,
    /// Effective rank of these embeddings: `(sum l)^2 / sum l^2` of the eigenvalues of their covariance.
    pub feature_rank: f64,
    /// Mean cosine of the student's patch embeddings with their targets; NaN without a patch head.
    pub patch_agreement: f64,
}

impl Health {
    /// Of one part of a batch.
    pub fn of(student: &Logits, teacher: &Targets) -> Result<Self> {
        let mut parcel = Parcel::default();
        let signs = Signs::of(student, teacher, &mut parcel)?;
        Ok(signs.read(&parcel.read()?))
    }

    /// `self` and `other`, weighted.
    pub(crate) fn plus(self, other: Self, share: f64) -> Self {
        Self {
            prototypes_used: self.prototypes_used + share * other.prototypes_used,
            feature_std: self.feature_std + share * other.feature_std,
            feature_rank: self.feature_rank + share * other.feature_rank,
            patch_agreement: self.patch_agreement + share * other.patch_agreement,
        }
    }
}

/// What [`Health`] is made of, and where it is in a parcel.
pub(crate) struct Signs {
    /// The prototype that wins each global view, of so many.
    winners: Range<usize>,
    prototypes: usize,
    /// See [`spread`].
    spread: Range<usize>,
    agreement: Option<Range<usize>>,
}

impl Signs {
    /// Of one part of a batch; what must be read goes into `parcel`.
    pub fn of(student: &Logits, teacher: &Targets, parcel: &mut Parcel) -> Result<Self> {
        let (g, b, k) = teacher.class.globals.dims3()?;
        let agreement = match (&student.patch, &teacher.patch) {
            (Some(s), Some(t)) => Some(parcel.add(&cosine(&s.rows, &t.rows)?)?),
            _ => None,
        };
        Ok(Self {
            winners: parcel.add(&teacher.class.globals.argmax(D::Minus1)?)?,
            prototypes: k,
            spread: parcel.add(&spread(&teacher.embedded.narrow(0, 0, g * b)?)?)?,
            agreement,
        })
    }

    /// Them, from what was read.
    pub fn read(&self, values: &[f64]) -> Health {
        let views = self.winners.len();
        let winners: HashSet<u64> = values[self.winners.clone()].iter().map(|v| *v as u64).collect();
        let [feature_std, total, squared] = [0, 1, 2].map(|i| values[self.spread.start + i]);
        Health {
            prototypes_used: winners.len() as f64 / views.min(self.prototypes) as f64,
            feature_std,
            feature_rank: if squared > 0. { total * total / squared } else { 0. },
            patch_agreement: self.agreement.as_ref().map_or(f64::NAN, |place| values[place.start]),
        }
    }
}

/// Rows whose spread is looked at; more tell little more.
pub(crate) const ROWS: usize = 64;

/// Of `rows [R, D]`, up to [`ROWS`] of which are used: their spread, the sum of the eigenvalues of their
/// covariance, and the sum of the squares of these.
fn spread(rows: &Tensor) -> Result<Tensor> {
    let (count, dim) = rows.dims2()?;
    let rows = rows.detach().narrow(0, 0, count.min(ROWS))?.to_dtype(DType::F32)?;
    let unit = ops::normalize_reference(&rows)?;
    let centred = unit.broadcast_sub(&unit.mean_keepdim(0)?)?;
    let variances = centred.sqr()?.mean(0)?;
    let deviation = (variances.sqrt()?.mean_all()? * (dim as f64).sqrt())?;
    // The inner products of the rows have the eigenvalues of the covariance.
    let squares = (centred.matmul(&centred.t()?)? / rows.dim(0)? as f64)?.sqr()?;
    Tensor::stack(&[deviation, variances.sum_all()?, squares.sum_all()?], 0)
}

/// Mean cosine of the rows of two `[R, D]`, of unit length both.
fn cosine(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    (a.detach() * b.detach())?.sum(D::Minus1)?.mean_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn spread_tells_one_direction_from_many() -> Result<()> {
        let of = |rows: &Tensor| -> Result<(f64, f64)> {
            let values = spread(rows)?.to_vec1::<f32>()?;
            let [std, total, squared] = [0, 1, 2].map(|i| f64::from(values[i]));
            Ok((std, total * total / squared))
        };
        let (std, rank) = of(&Tensor::new(&[[1f32, 2., 2.], [2., 4., 4.], [0.5, 1., 1.]], &Device::Cpu)?)?;
        // All alike: rounding alone is left, if anything.
        assert!(std < 1e-3 && (rank.is_nan() || rank < 4.), "{std} {rank}");
        // Both ends of two axes: two directions of the same size.
        let two =
            Tensor::new(&[[1f32, 0., 0., 0.], [-1., 0., 0., 0.], [0., 1., 0., 0.], [0., -1., 0., 0.]], &Device::Cpu)?;
        let (std, rank) = of(&two)?;
        assert!((rank - 2.).abs() < 1e-6 && (std - 2. * 0.5f64.sqrt() / 4. * 2.).abs() < 1e-6, "{std} {rank}");
        Ok(())
    }
}
