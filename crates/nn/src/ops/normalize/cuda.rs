//! CUDA kernels of `normalize`.

use super::shortest::SHORTEST;
use crate::cuda::{Grid, Module, launch, record, run, suffix, uninitialised};
use crate::{cuda_args, cuda_module};
use candle_core::{D, DType, Result, Tensor};

const NORMALIZE: Module = cuda_module!("normalize");

/// Rows of one block, a warp each.
const WARPS: usize = 4;

pub(super) fn normalize(x: &Tensor) -> Result<Tensor> {
    let (dim, device) = (x.dim(D::Minus1)?, x.device());
    let rows = x.elem_count() / dim;
    let grid = Grid::new(rows.div_ceil(WARPS), 32 * WARPS);
    let (from, dtype) = (x.detach().contiguous()?, x.dtype());
    let y = uninitialised(x.shape(), DType::F32, device)?;
    let lengths = uninitialised(rows, DType::F32, device)?;
    let name = format!("sp_normalize_forward_{}_{}", suffix(dtype)?, run(dim, 4, &[&from, &y])?);
    // SAFETY: the arguments are those of the kernel; what it writes is new.
    unsafe { launch(device, NORMALIZE, &name, grid, cuda_args![&from, &y, &lengths, rows, dim, SHORTEST]) }?;
    record(x, x, y, move |dy| {
        let dx = uninitialised(dy.shape(), dtype, dy.device())?;
        let name = format!("sp_normalize_backward_{}_{}", suffix(dtype)?, run(dim, 4, &[&from, dy, &dx])?);
        let args = cuda_args![&from, &lengths, dy, &dx, rows, dim, SHORTEST];
        // SAFETY: as above.
        unsafe { launch(dy.device(), NORMALIZE, &name, grid, args) }?;
        Ok(Some(dx))
    })
}

#[cfg(test)]
mod tests {
    use crate::Precision::F32;
    use crate::ops::{normalize, normalize_reference};
    use crate::testing::{Case, cuda, equal_on_cuda};
    use candle_core::{DType, Result, Tensor};
    use candle_nn::VarBuilder;

    type Op = fn(&Tensor) -> Result<Tensor>;

    #[test]
    fn equals_reference() -> Result<()> {
        let kinds = [(DType::F32, 1e-5), (DType::BF16, 2e-2), (DType::F16, 3e-3)];
        for ((dtype, tolerance), op) in kinds.into_iter().flat_map(|k| [(k, normalize as Op), (k, normalize_reference)])
        {
            for shape in [[3, 7, 17], [1, 5, 256], [2, 3, 300], [1, 1, 1]] {
                equal_on_cuda(
                    F32,
                    tolerance,
                    Case {
                        inputs: &[&shape],
                        build: |_: VarBuilder| Ok(()),
                        fused: |x: &[Tensor], _: &()| op(&x[0].to_dtype(dtype)?),
                        reference: |x: &[Tensor], _: &()| normalize_reference(&x[0]),
                    },
                )?;
            }
        }
        Ok(())
    }

    #[test]
    fn zero_stays_zero_and_what_is_not_a_number_stays_so() -> Result<()> {
        let Some(device) = cuda() else { return Ok(()) };
        let y = normalize(&Tensor::new(&[[0f32, 0., 0.], [1., f32::NAN, 2.], [0., 3., 4.]], &device)?)?;
        let y = y.to_vec2::<f32>()?;
        assert_eq!((&y[0], &y[2]), (&vec![0., 0., 0.], &vec![0., 0.6, 0.8]));
        assert!(y[1].iter().all(|y| y.is_nan()));
        Ok(())
    }
}
