//! How far the directions of rows are spread.

use candle_core::{DType, Result, Tensor};
use selfpatch_nn::ops;

/// Rows whose spread is measured; more rows tell little more.
pub const SPREAD_ROWS: usize = 64;

/// Three numbers about `rows [R, D]`, of which the first [`SPREAD_ROWS`] are used: the mean standard deviation of the
/// entries of their unit vectors times the square root of D (1 for directions spread evenly, 0 when all are alike), the
/// sum of the eigenvalues of their covariance, and the sum of the squares of these.
pub(crate) fn spread(rows: &Tensor) -> Result<Tensor> {
    let (count, dim) = rows.dims2()?;
    let rows = rows.detach().narrow(0, 0, count.min(SPREAD_ROWS))?.to_dtype(DType::F32)?;
    let unit = ops::normalize_reference(&rows)?;
    let centred = unit.broadcast_sub(&unit.mean_keepdim(0)?)?;
    let variances = centred.sqr()?.mean(0)?;
    let deviation = (variances.sqrt()?.mean_all()? * (dim as f64).sqrt())?;
    // The inner products of the rows have the eigenvalues of the covariance.
    let squares = (centred.matmul(&centred.t()?)? / rows.dim(0)? as f64)?.sqr()?;
    Tensor::stack(&[deviation, variances.sum_all()?, squares.sum_all()?], 0)
}

/// Standard deviation and effective rank, `(sum l)^2 / sum l^2` of the eigenvalues, from what [`spread`] gives.
pub(crate) fn deviation_and_rank(values: &[f64]) -> Vec<f64> {
    let [deviation, total, squared] = [0, 1, 2].map(|i| values[i]);
    vec![deviation, if squared > 0. { total * total / squared } else { 0. }]
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
