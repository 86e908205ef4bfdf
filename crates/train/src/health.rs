//! Numbers of one step that tell whether a run is well; they cost no product of matrices.

use crate::network::{Logits, Targets};
use candle_core::{D, DType, Result, Tensor};

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
        let (g, b, k) = teacher.class.globals.dims3()?;
        let winners = teacher.class.globals.argmax(D::Minus1)?.flatten_all()?.to_vec1::<u32>()?;
        let mut distinct = winners;
        distinct.sort_unstable();
        distinct.dedup();
        let (feature_std, feature_rank) = spread(&teacher.embedded.narrow(0, 0, g * b)?)?;
        let patch_agreement = match (&student.patch, &teacher.patch) {
            (Some(s), Some(t)) => cosine(&s.rows, &t.rows)?,
            _ => f64::NAN,
        };
        Ok(Self {
            prototypes_used: distinct.len() as f64 / (g * b).min(k) as f64,
            feature_std,
            feature_rank,
            patch_agreement,
        })
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

/// Rows whose spread is looked at; more tell little more.
const ROWS: usize = 64;

/// Spread and effective rank of `rows [R, D]`, of which up to [`ROWS`] are used.
fn spread(rows: &Tensor) -> Result<(f64, f64)> {
    let (count, dim) = rows.dims2()?;
    let rows = rows.narrow(0, 0, count.min(ROWS))?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let n = rows.len() as f64;
    let unit = |row: &Vec<f32>| {
        let length = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
        row.iter().map(|v| v / length).collect::<Vec<f32>>()
    };
    let mut rows: Vec<Vec<f32>> = rows.iter().map(unit).collect();
    let (mut deviation, mut total) = (0., 0.);
    for column in 0..dim {
        let mean = rows.iter().map(|row| row[column]).sum::<f32>() / n as f32;
        let mut squares = 0.;
        for row in &mut rows {
            row[column] -= mean;
            squares += f64::from(row[column]).powi(2);
        }
        deviation += (squares / n).sqrt();
        total += squares;
    }
    // The inner products of the rows have the eigenvalues of the covariance.
    let mut squared = 0.;
    for (i, a) in rows.iter().enumerate() {
        for b in &rows[..i] {
            squared += 2. * dot(a, b).powi(2);
        }
        squared += dot(a, a).powi(2);
    }
    let rank = if squared > 0. { total * total / squared } else { 0. };
    Ok((deviation / dim as f64 * (dim as f64).sqrt(), rank))
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    f64::from(a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>())
}

/// Mean cosine of the rows of two `[R, D]`, of unit length both.
fn cosine(a: &Tensor, b: &Tensor) -> Result<f64> {
    let sum = (a.detach() * b.detach())?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    Ok(sum / a.dim(0)? as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn spread_tells_one_direction_from_many() -> Result<()> {
        let alike = Tensor::new(&[[1f32, 2., 2.], [2., 4., 4.], [0.5, 1., 1.]], &Device::Cpu)?;
        let (std, rank) = spread(&alike)?;
        assert!(std < 1e-3 && rank < 4., "{std} {rank}");
        // Both ends of two axes: two directions of the same size.
        let two =
            Tensor::new(&[[1f32, 0., 0., 0.], [-1., 0., 0., 0.], [0., 1., 0., 0.], [0., -1., 0., 0.]], &Device::Cpu)?;
        let (std, rank) = spread(&two)?;
        assert!((rank - 2.).abs() < 1e-6 && (std - 2. * 0.5f64.sqrt() / 4. * 2.).abs() < 1e-6, "{std} {rank}");
        Ok(())
    }
}
