//! Positive matching: for each patch the most similar of its neighbours.

use crate::Neighbours;
use candle_core::{D, DType, Device, Result, Tensor, bail};
use rayon::prelude::*;
use selfpatch_nn::ops::{dot, normalize};
use selfpatch_simd::wide;

/// The positives of every patch.
#[derive(Clone, Debug)]
pub struct Positives {
    /// Patch numbers within their image, most similar first: `[B, N, k]` u32.
    pub ids: Tensor,
    /// Cosine similarities, `[B, N, k]`.
    pub similarity: Tensor,
    /// `[N, k]`, 1 where there is a positive and 0 where a patch at a clipped border has fewer than
    /// `k` neighbours (its id is then that of its best positive); `None` if none is missing.
    pub valid: Option<Tensor>,
}

impl Positives {
    /// Row of each positive among all patches of the batch, `[B*N*k]` u32, for gathering from `[B*N, D]`.
    pub fn rows(&self) -> Result<Tensor> {
        let (b, n, _) = self.ids.dims3()?;
        let first: Vec<u32> = (0..b as u32).map(|image| image * n as u32).collect();
        let first = Tensor::from_vec(first, (b, 1, 1), self.ids.device())?;
        self.ids.broadcast_add(&first)?.flatten_all()
    }
}

/// Cosine similarity of each patch with its neighbours: `tokens [B, N, D]` -> `[B, N, M]` in the order of the
/// neighbour table; 0 where there is no neighbour.
pub fn similarities(tokens: &Tensor, neighbours: &Neighbours) -> Result<Tensor> {
    let (b, n, d) = tokens.dims3()?;
    check_grid(n, neighbours)?;
    let m = neighbours.width();
    let unit = normalize(tokens)?;
    let ids: Vec<u32> = neighbours.table().iter().map(|&i| if i == Neighbours::NONE { 0 } else { i }).collect();
    let ids = Tensor::from_vec(ids, n * m, tokens.device())?;
    let near = unit.index_select(&ids, 1)?.reshape((b, n, m, d))?;
    let cosines = near.broadcast_mul(&unit.unsqueeze(2)?)?.sum(D::Minus1)?;
    if neighbours.is_full() {
        return Ok(cosines);
    }
    let present: Vec<u8> = neighbours.table().iter().map(|&i| u8::from(i != Neighbours::NONE)).collect();
    let present = Tensor::from_vec(present, (n, m), tokens.device())?.to_dtype(tokens.dtype())?;
    cosines.broadcast_mul(&present)
}

/// The `k` most similar neighbours of each patch of `tokens [B, N, D]`.
///
/// Ties go to the lower patch number; a NaN similarity ranks last. There is no gradient: the selection is made
/// outside the graph, as in the reference.
pub fn positives(tokens: &Tensor, neighbours: &Neighbours, k: usize) -> Result<Positives> {
    let (b, n, _) = tokens.dims3()?;
    check_grid(n, neighbours)?;
    let m = neighbours.width();
    if k == 0 || k > m {
        let (rows, cols) = neighbours.grid();
        bail!("k: {k} positives cannot be chosen from {m} neighbours on a {rows} x {cols} grid; use 1 to {m}")
    }
    let tokens = tokens.detach();
    let (ids, similarity) = choose(&tokens, neighbours, k)?;
    let valid = if (0..n).all(|p| neighbours.of(p).len() >= k) {
        None
    } else {
        let valid: Vec<u8> = (0..n).flat_map(|p| (0..k).map(move |j| u8::from(j < neighbours.of(p).len()))).collect();
        Some(Tensor::from_vec(valid, (n, k), tokens.device())?.to_dtype(tokens.dtype())?)
    };
    Ok(Positives {
        ids: ids.reshape((b, n, k))?,
        similarity: similarity.reshape((b, n, k))?.to_dtype(tokens.dtype())?,
        valid,
    })
}

/// Patch numbers (u32) and similarities (f32) of the `k` best neighbours, `B * N * k` each.
fn choose(tokens: &Tensor, neighbours: &Neighbours, k: usize) -> Result<(Tensor, Tensor)> {
    #[cfg(feature = "cuda")]
    if crate::cuda::applies(tokens, neighbours) {
        return crate::cuda::choose(tokens, neighbours, k);
    }
    let (b, n, d) = tokens.dims3()?;
    let m = neighbours.width();
    let cosines: Vec<f64> = if tokens.device().is_cpu() && tokens.dtype() == DType::F32 {
        cosines_cpu(&tokens.flatten_all()?.to_vec1::<f32>()?, (b, n, d), neighbours)
    } else {
        similarities(tokens, neighbours)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?
    };
    let mut ids = vec![0u32; b * n * k];
    let mut best = vec![0f64; b * n * k];
    ids.par_chunks_exact_mut(k)
        .zip(best.par_chunks_exact_mut(k))
        .zip(cosines.par_chunks_exact(m))
        .enumerate()
        .for_each(|(row, ((ids, best), cosines))| {
            let near = neighbours.of(row % n);
            let mut ranked: Vec<(usize, f64)> = cosines[..near.len()].iter().copied().enumerate().collect();
            let key = |c: f64| if c.is_nan() { f64::NEG_INFINITY } else { c };
            // Stable: equal similarities keep the order of the table.
            ranked.sort_by(|a, b| key(b.1).total_cmp(&key(a.1)));
            for (j, (id, value)) in ids.iter_mut().zip(best).enumerate() {
                let (at, cosine) = ranked[if j < ranked.len() { j } else { 0 }];
                (*id, *value) = (near[at], cosine);
            }
        });
    let device = tokens.device();
    Ok((Tensor::new(ids, device)?, Tensor::new(best, device)?))
}

fn check_grid(n: usize, neighbours: &Neighbours) -> Result<()> {
    if n != neighbours.patches() {
        let (rows, cols) = neighbours.grid();
        bail!("{n} patch tokens do not fit a grid of {rows} x {cols} patches")
    }
    Ok(())
}

/// [`similarities`] without gathering: each dot product is read straight from the tokens.
fn cosines_cpu(x: &[f32], (b, n, d): (usize, usize, usize), neighbours: &Neighbours) -> Vec<f64> {
    let m = neighbours.width();
    let mut unit = x.to_vec();
    unit.par_chunks_exact_mut(d).for_each(|row| {
        wide!({
            let scale = 1.0 / dot(row, row).sqrt().max(1e-12);
            row.iter_mut().for_each(|v| *v *= scale);
        });
    });
    let mut out = vec![0f64; b * n * m];
    out.par_chunks_exact_mut(m).enumerate().for_each(|(row, out)| {
        let image = &unit[row / n * n * d..][..n * d];
        let own = &unit[row * d..][..d];
        wide!(for (out, &id) in out.iter_mut().zip(neighbours.of(row % n)) {
            *out = f64::from(dot(own, &image[id as usize * d..][..d]));
        });
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Border;

    #[test]
    fn ties_go_to_the_lower_number() -> Result<()> {
        let x = Tensor::ones((2, 12, 5), DType::F32, &Device::Cpu)?;
        let near = Neighbours::new(3, 4, 3, Border::Torus)?;
        let got = positives(&x, &near, 4)?.ids.to_vec3::<u32>()?;
        for image in got {
            for (p, ids) in image.iter().enumerate() {
                assert_eq!(ids, &near.of(p)[..4]);
            }
        }
        Ok(())
    }

    #[test]
    fn fused_equals_plain_on_every_border() -> Result<()> {
        for border in [Border::Torus, Border::Clipped] {
            let x = selfpatch_nn::random::normal(1, (2, 20, 37))?;
            let near = Neighbours::new(4, 5, 3, border)?;
            let f32_ids = positives(&x, &near, 5)?;
            let f64_ids = positives(&x.to_dtype(DType::F64)?, &near, 5)?;
            assert_eq!(f32_ids.ids.to_vec3::<u32>()?, f64_ids.ids.to_vec3::<u32>()?);
            assert_eq!(f32_ids.valid.is_some(), border == Border::Clipped);
        }
        Ok(())
    }

    #[test]
    fn not_a_number_ranks_last() -> Result<()> {
        let mut x = vec![1f32; 9 * 2];
        x[2] = f32::NAN; // patch 1
        let x = Tensor::from_vec(x, (1, 9, 2), &Device::Cpu)?;
        let near = Neighbours::new(3, 3, 3, Border::Torus)?;
        let ids = positives(&x, &near, 8)?.ids.to_vec3::<u32>()?;
        assert_eq!(ids[0][0].last(), Some(&1));
        Ok(())
    }

    #[test]
    fn impossible_requests_are_refused() -> Result<()> {
        let x = Tensor::ones((1, 9, 2), DType::F32, &Device::Cpu)?;
        let near = Neighbours::new(3, 3, 3, Border::Torus)?;
        assert!(positives(&x, &near, 9).is_err() && positives(&x, &near, 0).is_err());
        assert!(positives(&x, &Neighbours::new(3, 4, 3, Border::Torus)?, 2).is_err());
        Ok(())
    }
}
