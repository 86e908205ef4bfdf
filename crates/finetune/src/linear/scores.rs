//! How many images are classified rightly.

use candle_core::{Result, Tensor};
use serde::Serialize;

/// Parts of the images that are classified rightly, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Part of the images whose class is the first guess.
    pub top1: f64,
    /// Part of the images whose class is one of the first five guesses, or of all where there are fewer.
    pub top5: f64,
}

/// Scores of `logits [N, C]` by the classes of the images. Of equal logits the lower class comes first; a
/// non-finite one counts as the least.
///
/// # Errors
/// When the logits cannot be read.
pub fn scores(logits: &Tensor, labels: &[u32]) -> Result<Scores> {
    let rows = logits.to_vec2::<f32>()?;
    let number = |v: f32| if v.is_finite() { v } else { f32::NEG_INFINITY };
    let rank = |(row, &label): (&Vec<f32>, &u32)| {
        let label = label as usize;
        let own = row.get(label).map_or(f32::NEG_INFINITY, |v| number(*v));
        let is_before = |(class, v): (usize, f32)| v > own || (v == own && class < label);
        row.iter().map(|v| number(*v)).enumerate().filter(|guess| is_before(*guess)).count()
    };
    let ranks: Vec<usize> = rows.iter().zip(labels).map(rank).collect();
    let part = |most: usize| ranks.iter().filter(|rank| **rank < most).count() as f64 / ranks.len().max(1) as f64;
    Ok(Scores { top1: part(1), top5: part(5) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn ties_go_to_the_lower_class_and_non_finite_logits_lose() -> Result<()> {
        let rows = [[1f32, 1., 0., 0., 0., 0.], [f32::NAN, 2., 1., 1., 1., 1.], [3., 2., 1., 0., -1., -2.]];
        let logits = Tensor::new(&rows, &Device::Cpu)?;
        let of = |labels: [u32; 3]| scores(&logits, &labels);
        assert_eq!(of([0, 1, 0])?, Scores { top1: 1., top5: 1. });
        assert_eq!(of([1, 0, 5])?, Scores { top1: 0., top5: 1. / 3. });
        Ok(())
    }
}
