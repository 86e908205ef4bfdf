// libcublas: products of matrices, and of a matrix with a vector.
#include <cublas_v2.h>

#include <optional>

#include "../counters.h"
#include "gemm.h"

using namespace emu;

struct cublasContext {
    cudaStream_t stream = nullptr;
    cublasMath_t math = CUBLAS_DEFAULT_MATH;
    cublasPointerMode_t pointers = CUBLAS_POINTER_MODE_HOST;
};

namespace {

// The type of alpha and beta; none for what the emulator does not know.
std::optional<cudaDataType> scale_of(cublasComputeType_t compute) {
    switch (compute) {
        case CUBLAS_COMPUTE_16F:
        case CUBLAS_COMPUTE_16F_PEDANTIC: return CUDA_R_16F;
        case CUBLAS_COMPUTE_32F:
        case CUBLAS_COMPUTE_32F_PEDANTIC:
        case CUBLAS_COMPUTE_32F_FAST_16F:
        case CUBLAS_COMPUTE_32F_FAST_16BF:
        case CUBLAS_COMPUTE_32F_FAST_TF32: return CUDA_R_32F;
        case CUBLAS_COMPUTE_64F:
        case CUBLAS_COMPUTE_64F_PEDANTIC: return CUDA_R_64F;
        default: return std::nullopt;
    }
}

struct Operand {
    const void *data;
    cudaDataType type;
    int leading;
};

// One product, checked as cuBLAS checks it.
cublasStatus_t product(const char *name, cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m,
                       int n, int k, const void *alpha, Operand a, Operand b, const void *beta, Operand c,
                       cudaDataType scale) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (m < 0 || n < 0 || k < 0) return CUBLAS_STATUS_INVALID_VALUE;
    bool transpose_a = ta != CUBLAS_OP_N, transpose_b = tb != CUBLAS_OP_N;
    auto least = [](int rows) { return rows > 1 ? rows : 1; };
    if (a.leading < least(transpose_a ? k : m) || b.leading < least(transpose_b ? n : k) || c.leading < least(m)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (!bytes_of(a.type) || a.type != b.type || !bytes_of(c.type)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!m || !n) return CUBLAS_STATUS_SUCCESS;
    Matrix result = Matrix::columns(c.data, c.type, c.leading, false);
    multiply({name, m, n, k, number(alpha, scale), number(beta, scale),
              Matrix::columns(a.data, a.type, a.leading, transpose_a),
              Matrix::columns(b.data, b.type, b.leading, transpose_b), result, result});
    return CUBLAS_STATUS_SUCCESS;
}

Operand moved(Operand operand, long long elements) {
    operand.data = Matrix::columns(operand.data, operand.type, 0, false).offset(elements).data;
    return operand;
}

cublasStatus_t strided(const char *name, cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m,
                       int n, int k, const void *alpha, Operand a, long long stride_a, Operand b, long long stride_b,
                       const void *beta, Operand c, long long stride_c, int batch, cudaDataType scale) {
    emu_count_library_call(name);
    for (int i = 0; i < batch; i++) {
        cublasStatus_t status = product(name, handle, ta, tb, m, n, k, alpha, moved(a, i * stride_a),
                                        moved(b, i * stride_b), beta, moved(c, i * stride_c), scale);
        if (status != CUBLAS_STATUS_SUCCESS) return status;
    }
    return batch < 0 ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t vector_product(const char *name, cublasHandle_t handle, cublasOperation_t t, int m, int n,
                              const void *alpha, const void *a, int leading, const void *x, int dx, const void *beta,
                              void *y, int dy, cudaDataType type) {
    emu_count_library_call(name);
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (m < 0 || n < 0 || dx < 1 || dy < 1 || leading < (m > 1 ? m : 1)) return CUBLAS_STATUS_INVALID_VALUE;
    bool transpose = t != CUBLAS_OP_N;
    int rows = transpose ? n : m, inner = transpose ? m : n;
    Matrix result{y, type, dy, 1};
    if (rows) {
        multiply({name,
                  rows,
                  1,
                  inner,
                  number(alpha, type),
                  number(beta, type),
                  Matrix::columns(a, type, leading, transpose),
                  {x, type, dx, 1},
                  result,
                  result});
    }
    return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle) {
    *handle = new cublasContext;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int *version) {
    *version = CUBLAS_VERSION;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t *stream) {
    *stream = handle->stream;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void *, size_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
    handle->math = mode;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t *mode) {
    *mode = handle->math;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
    handle->pointers = mode;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t *mode) {
    *mode = handle->pointers;
    return CUBLAS_STATUS_SUCCESS;
}
const char *cublasGetStatusName(cublasStatus_t) { return "an error of the cuBLAS emulator"; }
const char *cublasGetStatusString(cublasStatus_t) { return "an error of the cuBLAS emulator"; }

cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                              const float *alpha, const float *a, int lda, const float *b, int ldb, const float *beta,
                              float *c, int ldc) {
    return strided("cublasSgemm", handle, ta, tb, m, n, k, alpha, {a, CUDA_R_32F, lda}, 0, {b, CUDA_R_32F, ldb}, 0,
                   beta, {c, CUDA_R_32F, ldc}, 0, 1, CUDA_R_32F);
}
cublasStatus_t cublasDgemm_v2(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                              const double *alpha, const double *a, int lda, const double *b, int ldb,
                              const double *beta, double *c, int ldc) {
    return strided("cublasDgemm", handle, ta, tb, m, n, k, alpha, {a, CUDA_R_64F, lda}, 0, {b, CUDA_R_64F, ldb}, 0,
                   beta, {c, CUDA_R_64F, ldc}, 0, 1, CUDA_R_64F);
}
cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m,
                                         int n, int k, const float *alpha, const float *a, int lda, long long stride_a,
                                         const float *b, int ldb, long long stride_b, const float *beta, float *c,
                                         int ldc, long long stride_c, int batch) {
    return strided("cublasSgemmStridedBatched", handle, ta, tb, m, n, k, alpha, {a, CUDA_R_32F, lda}, stride_a,
                   {b, CUDA_R_32F, ldb}, stride_b, beta, {c, CUDA_R_32F, ldc}, stride_c, batch, CUDA_R_32F);
}
cublasStatus_t cublasDgemmStridedBatched(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m,
                                         int n, int k, const double *alpha, const double *a, int lda,
                                         long long stride_a, const double *b, int ldb, long long stride_b,
                                         const double *beta, double *c, int ldc, long long stride_c, int batch) {
    return strided("cublasDgemmStridedBatched", handle, ta, tb, m, n, k, alpha, {a, CUDA_R_64F, lda}, stride_a,
                   {b, CUDA_R_64F, ldb}, stride_b, beta, {c, CUDA_R_64F, ldc}, stride_c, batch, CUDA_R_64F);
}
cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                            const void *alpha, const void *a, cudaDataType type_a, int lda, const void *b,
                            cudaDataType type_b, int ldb, const void *beta, void *c, cudaDataType type_c, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t) {
    auto scale = scale_of(compute);
    if (!scale) return CUBLAS_STATUS_NOT_SUPPORTED;
    return strided("cublasGemmEx", handle, ta, tb, m, n, k, alpha, {a, type_a, lda}, 0, {b, type_b, ldb}, 0, beta,
                   {c, type_c, ldc}, 0, 1, *scale);
}
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m,
                                          int n, int k, const void *alpha, const void *a, cudaDataType type_a, int lda,
                                          long long stride_a, const void *b, cudaDataType type_b, int ldb,
                                          long long stride_b, const void *beta, void *c, cudaDataType type_c, int ldc,
                                          long long stride_c, int batch, cublasComputeType_t compute,
                                          cublasGemmAlgo_t) {
    auto scale = scale_of(compute);
    if (!scale) return CUBLAS_STATUS_NOT_SUPPORTED;
    return strided("cublasGemmStridedBatchedEx", handle, ta, tb, m, n, k, alpha, {a, type_a, lda}, stride_a,
                   {b, type_b, ldb}, stride_b, beta, {c, type_c, ldc}, stride_c, batch, *scale);
}
cublasStatus_t cublasGemmBatchedEx(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n,
                                   int k, const void *alpha, const void *const a[], cudaDataType type_a, int lda,
                                   const void *const b[], cudaDataType type_b, int ldb, const void *beta,
                                   void *const c[], cudaDataType type_c, int ldc, int batch,
                                   cublasComputeType_t compute, cublasGemmAlgo_t) {
    auto scale = scale_of(compute);
    if (!scale) return CUBLAS_STATUS_NOT_SUPPORTED;
    emu_count_library_call("cublasGemmBatchedEx");
    // The pointers lie in device memory, which can be read here.
    for (int i = 0; i < batch; i++) {
        cublasStatus_t status = product("cublasGemmBatchedEx", handle, ta, tb, m, n, k, alpha, {a[i], type_a, lda},
                                        {b[i], type_b, ldb}, beta, {c[i], type_c, ldc}, *scale);
        if (status != CUBLAS_STATUS_SUCCESS) return status;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSgemv_v2(cublasHandle_t handle, cublasOperation_t t, int m, int n, const float *alpha,
                              const float *a, int lda, const float *x, int dx, const float *beta, float *y, int dy) {
    return vector_product("cublasSgemv", handle, t, m, n, alpha, a, lda, x, dx, beta, y, dy, CUDA_R_32F);
}
cublasStatus_t cublasDgemv_v2(cublasHandle_t handle, cublasOperation_t t, int m, int n, const double *alpha,
                              const double *a, int lda, const double *x, int dx, const double *beta, double *y,
                              int dy) {
    return vector_product("cublasDgemv", handle, t, m, n, alpha, a, lda, x, dx, beta, y, dy, CUDA_R_64F);
}
}
