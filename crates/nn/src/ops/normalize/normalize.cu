// Rows of unit length: one warp per row.
#include "common.cuh"

// Their maximum; NaN if `length` is.
__device__ __forceinline__ float at_least(float shortest, float length) { return length < shortest ? shortest : length; }

// y = x / max(|x|, shortest); `lengths`: |x| of every row.
template <typename T, int V>
__device__ __forceinline__ void normalize_forward(const T *x, float *y, float *lengths, int rows, int dim,
                                                  float shortest) {
    const int lane = threadIdx.x % 32;
    const long long row = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    float squares = 0.f, v[V];
    for (int i = lane * V; i < dim; i += 32 * V) {
        load<V>(x + row * dim + i, v);
#pragma unroll
        for (int j = 0; j < V; j++) squares += v[j] * v[j];
    }
    const float length = sqrtf(warp_sum(squares)), divisor = at_least(shortest, length);
    for (int i = lane * V; i < dim; i += 32 * V) {
        load<V>(x + row * dim + i, v);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] /= divisor;
        store<V>(y + row * dim + i, v);
    }
    if (lane == 0) lengths[row] = length;
}

// dx = (dy - y (y . dy)) / |x|; without the second term where the length was not the divisor.
template <typename T, int V>
__device__ __forceinline__ void normalize_backward(const T *x, const float *lengths, const float *dy, T *dx, int rows,
                                                   int dim, float shortest) {
    const int lane = threadIdx.x % 32;
    const long long row = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    const float length = lengths[row], inverse = 1.f / at_least(shortest, length);
    float along = 0.f, v[V], d[V];
    for (int i = lane * V; i < dim; i += 32 * V) {
        load<V>(x + row * dim + i, v);
        load<V>(dy + row * dim + i, d);
#pragma unroll
        for (int j = 0; j < V; j++) along += v[j] * inverse * d[j];
    }
    along = warp_sum(along);
    if (length < shortest) along = 0.f;
    for (int i = lane * V; i < dim; i += 32 * V) {
        load<V>(x + row * dim + i, v);
        load<V>(dy + row * dim + i, d);
#pragma unroll
        for (int j = 0; j < V; j++) d[j] = (d[j] - v[j] * inverse * along) * inverse;
        store<V>(dx + row * dim + i, d);
    }
}

#define KERNELS(T, NAME, V)                                                                                       \
    extern "C" __global__ void sp_normalize_forward_##NAME##_##V(const T *x, float *y, float *lengths, int rows,  \
                                                                 int dim, float shortest) {                       \
        normalize_forward<T, V>(x, y, lengths, rows, dim, shortest);                                              \
    }                                                                                                             \
    extern "C" __global__ void sp_normalize_backward_##NAME##_##V(const T *x, const float *lengths,               \
                                                                  const float *dy, T *dx, int rows, int dim,      \
                                                                  float shortest) {                               \
        normalize_backward<T, V>(x, lengths, dy, dx, rows, dim, shortest);                                        \
    }

KERNELS(float, f32, 1)
KERNELS(float, f32, 4)
KERNELS(bf16, bf16, 1)
KERNELS(bf16, bf16, 4)
KERNELS(f16, f16, 1)
KERNELS(f16, f16, 4)
