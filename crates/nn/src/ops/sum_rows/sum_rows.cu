// Sums of columns.
#include "common.cuh"

// out [parts, dim]: the sums of each column of x [rows, dim] over `chunk` rows. Blocks of 8 warps, which read V
// columns per lane.
template <typename T, int V>
__device__ __forceinline__ void sum_rows(const T *x, float *out, int rows, int dim, int chunk) {
    __shared__ float sums[8][32 * V];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int column = (blockIdx.x * 32 + lane) * V;
    const int begin = blockIdx.y * chunk, end = min(rows, begin + chunk);
    float sum[V], v[V];
#pragma unroll
    for (int j = 0; j < V; j++) sum[j] = 0.f;
    if (column < dim) {
        for (int row = begin + warp; row < end; row += 8) {
            load<V>(x + (long long)row * dim + column, v);
#pragma unroll
            for (int j = 0; j < V; j++) sum[j] += v[j];
        }
    }
#pragma unroll
    for (int j = 0; j < V; j++) sums[warp][lane * V + j] = sum[j];
    __syncthreads();
    if (warp > 0 || column >= dim) return;
#pragma unroll
    for (int j = 0; j < V; j++) {
        for (int w = 1; w < 8; w++) sum[j] += sums[w][lane * V + j];
    }
    store<V>(out + (long long)blockIdx.y * dim + column, sum);
}

#define KERNELS(T, NAME, V)                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                     \
        sp_sum_rows_##NAME##_##V(const T *x, float *out, int rows, int dim, int chunk) {                  \
        sum_rows<T, V>(x, out, rows, dim, chunk);                                                         \
    }

KERNELS(float, f32, 1)
KERNELS(float, f32, 4)
KERNELS(bf16, bf16, 1)
KERNELS(bf16, bf16, 4)
KERNELS(f16, f16, 1)
KERNELS(f16, f16, 4)
