//! Weight-normed prototypes: `y_rk = g_k (x_r . v_k) / |v_k|`.
//!
//! The norm is a scale per prototype. The prototypes are scaled before the product, not the products
//! afterwards: they then round as torch's do, which counts, because small temperatures magnify what
//! is common to a column of logits. For a few rows they are scaled block by block and never written
//! to memory.

#[cfg(feature = "cuda")]
mod cuda;

#[cfg(feature = "cuda")]
pub(super) use cuda::Scaled;

use super::linear::reference as linear_reference;
use super::weight_norm::reference as weight_norm_reference;
use crate::gradients::deposit;
use crate::kernel::{self, Buffer, Mat, View, gemm, gemm_parallel};
use crate::precision::to_full;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use selfpatch_simd::wide;

/// Prototypes handled by one parallel task.
const PER_TASK: usize = 512;

/// Products of rows and weight-normed prototypes: `x [R, D]`, `v [K, D]`, `g [K, 1]` -> `[R, K]`.
pub fn prototypes(x: &Tensor, v: &Tensor, g: &Tensor) -> Result<Tensor> {
    let ((_, width), (count, dim)) = (x.dims2()?, v.dims2()?);
    if width != dim || g.dims() != [count, 1] {
        bail!("prototypes {:?} with gains {:?} were given rows of width {width}", v.dims(), g.dims())
    }
    if x.elem_count() * count == 0 {
        return reference(x, v, g);
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::fusible(x) {
        return cuda::prototypes(x, v, g);
    }
    if !kernel::fusible(x) {
        return reference(x, v, g);
    }
    let (x, v, gain) = (x.contiguous()?, v.contiguous()?, g.clone());
    let op = Prototypes { gain };
    if g.track_op() && !x.track_op() && !v.track_op() {
        return reference(&x, &v, g); // nothing else puts the op into the graph
    }
    x.apply_op2(&v, op)
}

/// Logits of weight-normalised prototypes from candle's own ops.
pub fn reference(x: &Tensor, v: &Tensor, g: &Tensor) -> Result<Tensor> {
    to_full(&linear_reference(x, &weight_norm_reference(v, g)?, None)?)
}

struct Prototypes {
    gain: Tensor,
}

/// `|v_k|` of every prototype.
fn lengths(v: &[f32], n: usize) -> Vec<f32> {
    v.par_chunks_exact(n).with_min_len(PER_TASK).map(|v| wide!(kernel::dot(v, v).sqrt())).collect()
}

/// `v_k s_k` of every prototype.
pub(super) fn scaled(v: &[f32], scale: &[f32], n: usize) -> Buffer {
    let mut w = Buffer::stale(v.len());
    let pairs = w.par_chunks_mut(PER_TASK * n).zip(v.par_chunks(PER_TASK * n)).zip(scale.par_chunks(PER_TASK));
    pairs.for_each(|((w, v), scale)| {
        wide!({
            for ((w, v), s) in w.chunks_exact_mut(n).zip(v.chunks_exact(n)).zip(scale) {
                w.iter_mut().zip(v).for_each(|(w, v)| *w = v * s);
            }
        });
    });
    w
}

/// `y = x (v g / |v|)^T`, the prototypes block by block.
fn few_rows((rows, count, n): (usize, usize, usize), x: &[f32], v: &[f32], gain: &[f32], y: &mut [f32]) {
    let parts: Vec<Buffer> = v
        .par_chunks(PER_TASK * n)
        .zip(gain.par_chunks(PER_TASK))
        .map(|(v, gain)| {
            let mut w = Buffer::stale(v.len());
            wide!({
                for ((w, v), g) in w.chunks_exact_mut(n).zip(v.chunks_exact(n)).zip(gain) {
                    let scale = g / kernel::dot(v, v).sqrt();
                    w.iter_mut().zip(v).for_each(|(w, v)| *w = v * scale);
                }
            });
            let mut part = Buffer::stale(rows * gain.len());
            gemm((rows, gain.len(), n), &mut part, gain.len(), false, 1., Mat::dense(x, n), Mat::transposed(&w, n));
            part
        })
        .collect();
    y.par_chunks_exact_mut(count).enumerate().for_each(|(row, y)| {
        for (y, part) in y.chunks_mut(PER_TASK).zip(&parts) {
            y.copy_from_slice(&part[row * y.len()..][..y.len()]);
        }
    });
}

fn scale_columns(y: &mut [f32], scale: &[f32]) {
    y.par_chunks_exact_mut(scale.len()).for_each(|y| {
        wide!(y.iter_mut().zip(scale).for_each(|(y, s)| *y *= s));
    });
}

impl CustomOp2 for Prototypes {
    fn name(&self) -> &'static str {
        "prototypes"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout, v: &CpuStorage, vl: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, n) = xl.shape().dims2()?;
        let count = vl.shape().dims2()?.0;
        let (x, v) = (kernel::slice(x, xl)?, kernel::slice(v, vl)?);
        let mut y = vec![0f32; rows * count];
        let dims = (rows, count, n);
        if rows < n {
            let gain = self.gain.contiguous()?;
            few_rows(dims, x, v, &View::of(&gain)?, &mut y);
        } else {
            let scale = scales(v, &self.gain, n)?.0;
            let w = kernel::transposed(&scaled(v, &scale, n), n);
            gemm_parallel(dims, &mut y, Mat::dense(x, n), Mat::dense(&w, count));
        }
        Ok((CpuStorage::F32(y), Shape::from((rows, count))))
    }

    /// With `u = v / |v|` and `G = dy^T x`: `dx = dy (g u)`, `dv = g / |v| (G - u (u . G))`,
    /// `dg = u . G`.
    fn bwd(&self, x: &Tensor, v: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((rows, n), count) = (x.dims2()?, v.dims2()?.0);
        let dy = dy.contiguous()?;
        let (xs, vs, dys) = (View::of(x)?, View::of(v)?, View::of(&dy)?);
        let (xs, vs, dys): (&[f32], &[f32], &[f32]) = (&xs, &vs, &dys);
        let (scale, inverse) = scales(vs, &self.gain, n)?;
        let dx = x.track_op().then(|| {
            let mut dx = vec![0f32; rows * n];
            let dims = (rows, n, count);
            if rows < n {
                let mut scaled = Buffer::stale(dys.len());
                scaled.copy_from_slice(dys);
                scale_columns(&mut scaled, &scale);
                gemm_parallel(dims, &mut dx, Mat::dense(&scaled, count), Mat::dense(vs, n));
            } else {
                gemm_parallel(dims, &mut dx, Mat::dense(dys, count), Mat::dense(&scaled(vs, &scale, n), n));
            }
            Tensor::from_vec(dx, (rows, n), x.device())
        });
        deposit_gradients((v, &self.gain), (vs, xs, dys), (&scale, &inverse), 1.)?;
        Ok((dx.transpose()?, None))
    }
}

/// Deposits `factor` times the gradients of prototypes and gains, given the rows `x`, those of the
/// products `dy` and what [`scales`] gave.
pub(super) fn deposit_gradients(
    (v, gain): (&Tensor, &Tensor),
    (vs, x, dy): (&[f32], &[f32], &[f32]),
    (scale, inverse): (&[f32], &[f32]),
    factor: f32,
) -> Result<()> {
    if !v.track_op() && !gain.track_op() {
        return Ok(());
    }
    let count = scale.len();
    let n = vs.len() / count;
    let rows = x.len() / n;
    let (mut dv, mut dg) = (Buffer::stale(vs.len()), Buffer::stale(count));
    let x = Mat::dense(x, n);
    dv.par_chunks_mut(PER_TASK * n).zip(dg.par_chunks_mut(PER_TASK)).enumerate().for_each(|(i, (dv, dg))| {
        let first = i * PER_TASK;
        let dy = Mat { data: &dy[first..], rows: 1, cols: count };
        gemm((dg.len(), n, rows), dv, n, false, factor, dy, x);
        wide!({
            for (k, (dv, dg)) in dv.chunks_exact_mut(n).zip(dg).enumerate() {
                let k = first + k;
                let v = &vs[k * n..][..n];
                let along = kernel::dot(v, dv) * inverse[k];
                *dg = along;
                let along = along * inverse[k];
                dv.iter_mut().zip(v).for_each(|(dv, v)| *dv = scale[k] * (*dv - v * along));
            }
        });
    });
    deposit(gain, || dg)?;
    deposit(v, || dv)
}

/// `g / |v|` and `1 / |v|` of every prototype.
pub(super) fn scales(v: &[f32], gain: &Tensor, n: usize) -> Result<(Vec<f32>, Vec<f32>)> {
    let gain = gain.contiguous()?;
    let gain = View::of(&gain)?;
    let mut lengths = lengths(v, n);
    let scale = lengths.iter().zip(&*gain).map(|(length, g)| g / length).collect();
    lengths.iter_mut().for_each(|length| *length = 1. / *length);
    Ok((scale, lengths))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, equal_with_parameters};
    use candle_nn::{Init, VarBuilder, init};

    #[test]
    fn equals_reference_for_few_and_for_many_rows() -> Result<()> {
        for (rows, dim, count) in [(3, 17, 600), (70, 17, 9), (1, 4, 1), (40, 32, 1500)] {
            let build = |vb: VarBuilder| {
                Ok((
                    vb.get_with_hints((count, dim), "v", Init::Randn { mean: 0., stdev: 1. })?,
                    vb.get_with_hints((count, 1), "g", init::ONE)?,
                ))
            };
            equal_with_parameters(Case {
                inputs: &[&[rows, dim]],
                build,
                fused: |x: &[Tensor], (v, g): &(Tensor, Tensor)| prototypes(&x[0], v, g),
                reference: |x: &[Tensor], (v, g): &(Tensor, Tensor)| reference(&x[0], v, g),
            })?;
        }
        Ok(())
    }
}
