//! CUDA kernel of `sum_rows`.

use crate::cuda::{Grid, Module, launch, run, suffix, uninitialised};
use crate::{cuda_args, cuda_module};
use candle_core::{DType, Result, Tensor};

const SUM_ROWS: Module = cuda_module!("sum_rows");

/// Rows that one block adds up; what blocks have left is added up the same way.
const CHUNK: usize = 128;

pub(super) fn sum_rows(x: &Tensor) -> Result<Tensor> {
    let (rows, dim) = x.dims2()?;
    let parts = rows.div_ceil(CHUNK);
    let (x, sums) = (x.detach().contiguous()?, uninitialised((parts, dim), DType::F32, x.device())?);
    let v = run(dim, 4, &[&x, &sums])?;
    let name = format!("sp_sum_rows_{}_{v}", suffix(x.dtype())?);
    let grid = Grid { blocks: (dim.div_ceil(32 * v), parts, 1), threads: 256, shared: 0 };
    // SAFETY: the arguments are those of the kernel; what it writes is new.
    unsafe { launch(x.device(), SUM_ROWS, &name, grid, cuda_args![&x, &sums, rows, dim, CHUNK]) }?;
    if parts > 1 { sum_rows(&sums) } else { Ok(sums) }
}

#[cfg(test)]
mod tests {
    use crate::ops::sum_rows;
    use crate::random::normal;
    use crate::testing::cuda;
    use candle_core::{DType, Device, Result};

    #[test]
    fn equals_reference() -> Result<()> {
        let Some(device) = cuda() else { return Ok(()) };
        for (rows, dim) in [(1, 1), (7, 300), (129, 33), (300, 1001), (20_000, 4)] {
            for dtype in [DType::F32, DType::BF16, DType::F16] {
                let x = normal(1, (rows, dim))?.to_dtype(dtype)?;
                let want = x.to_dtype(DType::F64)?.sum_keepdim(0)?;
                let got = sum_rows(&x.to_device(&device)?)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
                let error = (got - &want)?.abs()?.max_all()?.to_scalar::<f64>()?;
                let size = want.abs()?.max_all()?.to_scalar::<f64>()?;
                assert!(error <= 1e-5 * size, "{rows} {dim} {dtype:?}: {error:e} of {size:e}");
            }
        }
        Ok(())
    }
}
