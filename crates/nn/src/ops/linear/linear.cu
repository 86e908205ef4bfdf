// What stands around the products of linear layers: biases, residual branches, sums of columns.
#include "common.cuh"

// y += bias, in every row.
template <typename T, int V>
__device__ __forceinline__ void add_bias(T *y, const float *bias, long long count, int dim) {
    const long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= count) return;
    const int column = (int)(i % dim);
    float v[V];
    load<V>(y + i, v);
#pragma unroll
    for (int j = 0; j < V; j++) v[j] += bias[column + j];
    store<V>(y + i, v);
}

// out = x + scale (branch + bias); `bias`, and `scale` of each row, may be null.
template <typename T, int V>
__device__ __forceinline__ void residual(const float *x, const T *branch, const float *bias, const float *scale,
                                         float *out, long long count, int dim) {
    const long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= count) return;
    const int column = (int)(i % dim);
    const float factor = scale ? scale[i / dim] : 1.f;
    float v[V], b[V];
    load<V>(x + i, v);
    load<V>(branch + i, b);
#pragma unroll
    for (int j = 0; j < V; j++) v[j] += factor * (b[j] + (bias ? bias[column + j] : 0.f));
    store<V>(out + i, v);
}

// The gradient of a branch: out = scale d.
template <typename T, int V>
__device__ __forceinline__ void branch_gradient(const float *d, const float *scale, T *out, long long count, int dim) {
    const long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= count) return;
    const float factor = scale ? scale[i / dim] : 1.f;
    float v[V];
    load<V>(d + i, v);
#pragma unroll
    for (int j = 0; j < V; j++) v[j] *= factor;
    store<V>(out + i, v);
}

// out [chunks, dim]: the sums of each column of x [rows, dim] over `chunk` rows. Blocks of 8 warps; a warp
// reads V columns per lane.
template <typename T, int V>
__device__ __forceinline__ void column_sums(const T *x, float *out, int rows, int dim, int chunk) {
    __shared__ float sums[8][32 * V];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int column = (blockIdx.x * 32 + lane) * V;
    const int begin = blockIdx.y * chunk, end = min(rows, begin + chunk);
    float sum[V];
#pragma unroll
    for (int j = 0; j < V; j++) sum[j] = 0.f;
    if (column < dim) {
        for (int row = begin + warp; row < end; row += 8) {
            float v[V];
            load<V>(x + (long long)row * dim + column, v);
#pragma unroll
            for (int j = 0; j < V; j++) sum[j] += v[j];
        }
    }
#pragma unroll
    for (int j = 0; j < V; j++) sums[warp][lane * V + j] = sum[j];
    __syncthreads();
    if (warp == 0 && column < dim) {
#pragma unroll
        for (int j = 0; j < V; j++) {
            float total = 0.f;
            for (int w = 0; w < 8; w++) total += sums[w][lane * V + j];
            out[(long long)blockIdx.y * dim + column + j] = total;
        }
    }
}

#define KERNELS(T, NAME, V)                                                                                       \
    extern "C" __global__ void sp_add_bias_##NAME##_##V(T *y, const float *bias, long long count, int dim) {      \
        add_bias<T, V>(y, bias, count, dim);                                                                      \
    }                                                                                                             \
    extern "C" __global__ void sp_residual_##NAME##_##V(const float *x, const T *branch, const float *bias,       \
                                                        const float *scale, float *out, long long count,          \
                                                        int dim) {                                                \
        residual<T, V>(x, branch, bias, scale, out, count, dim);                                                  \
    }                                                                                                             \
    extern "C" __global__ void sp_branch_gradient_##NAME##_##V(const float *d, const float *scale, T *out,        \
                                                               long long count, int dim) {                        \
        branch_gradient<T, V>(d, scale, out, count, dim);                                                         \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
        sp_column_sums_##NAME##_##V(const T *x, float *out, int rows, int dim, int chunk) {                       \
        column_sums<T, V>(x, out, rows, dim, chunk);                                                              \
    }

KERNELS(float, f32, 1)
KERNELS(float, f32, 4)
KERNELS(bf16, bf16, 1)
KERNELS(bf16, bf16, 4)
KERNELS(f16, f16, 1)
KERNELS(f16, f16, 4)
