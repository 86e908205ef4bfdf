//! CUDA kernels of the prototypes.

use crate::cuda::{Grid, Module, launch, matmul, record, run, single, suffix, t, uninitialised};
use crate::ops::anchor::anchor;
use crate::precision::compute_dtype;
use crate::{cuda_args, cuda_module, deposit_tensor};
use candle_core::{DType, Result, Tensor};

const PROTOTYPES: Module = cuda_module!("prototypes");

/// Prototypes of one block, a warp each.
const WARPS: usize = 4;

pub(super) fn prototypes(x: &Tensor, v: &Tensor, g: &Tensor) -> Result<Tensor> {
    let dtype = compute_dtype(x);
    let rows = x.detach().to_dtype(dtype)?.contiguous()?;
    let scaled = Scaled::of(v, g, dtype)?;
    let logits = matmul(&rows, t(&scaled.w), DType::F32)?;
    let back_to = x.track_op().then_some(x.dtype());
    let parameter = scaled.anchor().clone();
    record(x, &parameter, logits, move |dy| {
        let dy = dy.to_dtype(dtype)?;
        if scaled.trained() {
            scaled.deposit(matmul(t(&dy), &rows, DType::F32)?)?;
        }
        back_to.map(|dtype| matmul(&dy, &scaled.w, DType::F32)?.to_dtype(dtype)).transpose()
    })
}

/// Prototypes at their lengths, and what leads back to their parameters.
pub(in crate::ops) struct Scaled {
    /// Prototypes at their lengths, `v g / |v|`, `[K, D]`, in the type that products are computed in.
    pub(in crate::ops) w: Tensor,
    /// `g / |v|` of each prototype; `inverse` has `1 / |v|`.
    scale: Tensor,
    inverse: Tensor,
    v: Tensor,
    g: Tensor,
}

impl Scaled {
    pub(in crate::ops) fn of(v: &Tensor, g: &Tensor, dtype: DType) -> Result<Self> {
        let ((count, dim), device) = (v.dims2()?, v.device());
        let w = uninitialised((count, dim), dtype, device)?;
        let (scale, inverse) = (uninitialised(count, DType::F32, device)?, uninitialised(count, DType::F32, device)?);
        let scaled = Self { w, scale, inverse, v: v.clone(), g: g.clone() };
        let (v, gain) = (plain(v)?, plain(g)?);
        let name = format!("sp_prototypes_forward_{}_{}", suffix(dtype)?, run(dim, 4, &[&v, &scaled.w])?);
        let args = cuda_args![&v, &gain, &scaled.w, &scaled.scale, &scaled.inverse, count, dim];
        // SAFETY: the arguments are those of the kernel; what it writes is new.
        unsafe { launch(device, PROTOTYPES, &name, grid(count), args) }?;
        Ok(scaled)
    }

    /// A trained parameter, if there is one.
    pub(in crate::ops) fn anchor(&self) -> &Tensor {
        anchor([&self.v, &self.g]).unwrap_or(&self.v)
    }

    /// Whether any parameter is trained.
    pub(in crate::ops) fn trained(&self) -> bool {
        self.anchor().track_op()
    }

    /// Deposits the gradients of both parameters, given that of `w` in f32, which nothing else may use.
    pub(in crate::ops) fn deposit(&self, dw: Tensor) -> Result<()> {
        let (count, dim) = self.v.dims2()?;
        let v = plain(&self.v)?;
        let dg = uninitialised(count, DType::F32, dw.device())?;
        let name = format!("sp_prototypes_backward_{}", run(dim, 4, &[&v, &dw])?);
        let args = cuda_args![&v, &self.scale, &self.inverse, &dw, &dg, count, dim];
        // SAFETY: the arguments are those of the kernel; `dw` is in use nowhere else.
        unsafe { launch(dw.device(), PROTOTYPES, &name, grid(count), args) }?;
        deposit_tensor(&self.g, || Ok(dg))?;
        deposit_tensor(&self.v, || Ok(dw))
    }
}

fn grid(count: usize) -> Grid {
    Grid::new(count.div_ceil(WARPS), 32 * WARPS)
}

/// A parameter as the kernels read it.
fn plain(parameter: &Tensor) -> Result<Tensor> {
    single(&parameter.detach())
}

#[cfg(test)]
mod tests {
    use crate::Precision::{Bf16, F16, F32};
    use crate::ops::{prototypes, prototypes_reference};
    use crate::testing::{Case, equal_on_cuda};
    use candle_core::{Result, Tensor};
    use candle_nn::{Init, VarBuilder, init};

    type Op = fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>;

    #[test]
    fn equals_reference_for_few_and_for_many_rows() -> Result<()> {
        for (rows, dim, count) in [(3, 17, 600), (70, 32, 9), (5, 256, 301), (1, 4, 1)] {
            // Whether directions and gains are frozen.
            for frozen in [[false, false], [false, true], [true, false], [true, true]] {
                let build = |vb: VarBuilder| {
                    let v = vb.get_with_hints((count, dim), "v", Init::Randn { mean: 0., stdev: 1. })?;
                    let g = vb.get_with_hints((count, 1), "g", init::ONE)?;
                    let freeze = |t: Tensor, frozen: bool| if frozen { t.detach() } else { t };
                    Ok((freeze(v, frozen[0]), freeze(g, frozen[1])))
                };
                let kinds = [(F32, 1e-5), (Bf16, 2e-2), (F16, 3e-3)];
                let ops = |kind| [(kind, prototypes as Op), (kind, prototypes_reference)];
                for ((precision, tolerance), op) in kinds.into_iter().flat_map(ops) {
                    equal_on_cuda(
                        precision,
                        tolerance,
                        Case {
                            inputs: &[&[rows, dim]],
                            build,
                            fused: |x: &[Tensor], (v, g): &(Tensor, Tensor)| op(&x[0], v, g),
                            reference: |x: &[Tensor], (v, g): &(Tensor, Tensor)| prototypes_reference(&x[0], v, g),
                        },
                    )?;
                }
            }
        }
        Ok(())
    }
}
