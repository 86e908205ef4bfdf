//! Products of matrices by cuBLAS.

use super::device::own;
use super::tensors::{address, uninitialised};
use candle_core::cuda_backend::cudarc::cublas::{result, sys};
use candle_core::cuda_backend::gemm_reduced_precision_f32;
use candle_core::{DType, Result, Tensor, bail};

/// A matrix `[R, C]`, or the transpose of one.
#[derive(Clone, Copy)]
pub(crate) struct Factor<'a>(&'a Tensor, bool);

impl<'a> From<&'a Tensor> for Factor<'a> {
    fn from(t: &'a Tensor) -> Self {
        Self(t, false)
    }
}

/// The transpose of a matrix, which is not made.
pub(crate) fn t(x: &Tensor) -> Factor<'_> {
    Factor(x, true)
}

impl Factor<'_> {
    fn dims(&self) -> Result<(usize, usize)> {
        let (rows, columns) = self.0.dims2()?;
        Ok(if self.1 { (columns, rows) } else { (rows, columns) })
    }
}

/// `a b`, summed in f32, as `dtype`: f32, or the type of the factors, which is the same for both.
pub(crate) fn matmul<'a>(a: impl Into<Factor<'a>>, b: impl Into<Factor<'a>>, dtype: DType) -> Result<Tensor> {
    let (a, b) = (a.into(), b.into());
    let ((m, k), n) = (a.dims()?, b.dims()?.1);
    if m * n * k == 0 {
        return Tensor::zeros((m, n), dtype, a.0.device());
    }
    let out = uninitialised((m, n), dtype, a.0.device())?;
    write(a, b, &out, 0.)?;
    Ok(out)
}

/// [`matmul`] into `out`, which may be some rows of a matrix. Nothing else may use these.
pub(crate) fn matmul_into<'a>(a: impl Into<Factor<'a>>, b: impl Into<Factor<'a>>, out: &Tensor) -> Result<()> {
    write(a.into(), b.into(), out, 0.)
}

/// Adds [`matmul`] to `sum`, which nothing else may use.
pub(crate) fn add_matmul<'a>(a: impl Into<Factor<'a>>, b: impl Into<Factor<'a>>, sum: &Tensor) -> Result<()> {
    write(a.into(), b.into(), sum, 1.)
}

/// `out = a b + beta out`; no matrix is empty.
fn write(a: Factor, b: Factor, out: &Tensor, beta: f32) -> Result<()> {
    let ((m, k), (k2, n)) = (a.dims()?, b.dims()?);
    let (Factor(a, ta), Factor(b, tb)) = (a, b);
    if k != k2 || a.dtype() != b.dtype() || out.dims() != [m, n] {
        bail!("no product of {:?} {:?} and {:?} {:?} as {:?}", a.dims(), a.dtype(), b.dims(), b.dtype(), out.dims())
    }
    if [b, out].iter().any(|t| !t.device().same_device(a.device())) {
        bail!("no product of matrices on two devices")
    }
    let int = |n: usize| i32::try_from(n).map_err(|_| candle_core::Error::Msg(format!("a matrix of {n} rows")));
    let kind = |dtype: DType| {
        Ok(match dtype {
            DType::F32 => sys::cudaDataType_t::CUDA_R_32F,
            DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
            DType::F16 => sys::cudaDataType_t::CUDA_R_16F,
            other => bail!("no product of matrices of {other:?}"),
        })
    };
    let op = |transposed: bool| match transposed {
        true => sys::cublasOperation_t::CUBLAS_OP_T,
        false => sys::cublasOperation_t::CUBLAS_OP_N,
    };
    let compute = match a.dtype() == DType::F32 && gemm_reduced_precision_f32() {
        true => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        false => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
    };
    let one = 1f32;
    let blas = own(a.device())?.cublas_handle();
    // SAFETY: sizes and types are those of the tensors, which outlive the call. cuBLAS counts columns
    // first: it is asked for the transpose, b^T a^T.
    unsafe {
        result::gemm_ex(
            *blas.handle(),
            op(tb),
            op(ta),
            int(n)?,
            int(m)?,
            int(k)?,
            (&raw const one).cast(),
            address(b)? as *const _,
            kind(b.dtype())?,
            int(b.dim(1)?)?,
            address(a)? as *const _,
            kind(a.dtype())?,
            int(a.dim(1)?)?,
            (&raw const beta).cast(),
            address(out)? as *mut _,
            kind(out.dtype())?,
            int(n)?,
            compute,
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
        )
    }
    .map_err(candle_core::Error::wrap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::new_device;
    use crate::testing::cuda;

    #[test]
    fn matrices_of_other_devices_are_refused() -> Result<()> {
        let Some(device) = cuda() else { return Ok(()) };
        let on = |device| Tensor::ones((4, 4), DType::F32, &device);
        let (x, other, tracked) = (on(device)?, on(new_device(0)?)?, on(candle_core::Device::new_cuda(0)?)?);
        assert!(matmul(&x, &other, DType::F32).is_err() && matmul(&other, &x, DType::F32).is_err());
        assert!(matmul_into(&x, &x, &other).is_err() && add_matmul(&tracked, &tracked, &tracked).is_err());
        assert_eq!(matmul(&x, &x, DType::F32)?.to_vec2::<f32>()?, [[4.; 4]; 4]);
        Ok(())
    }
}
