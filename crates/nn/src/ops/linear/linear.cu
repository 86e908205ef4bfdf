// What stands around the products of linear layers: biases and residual branches.
#include "common.cuh"

// y += bias, in every row.
template <typename T, int V>
__device__ __forceinline__ void add_bias(T *y, const float *bias, long long count, int dim) {
    const Place<V> at(dim);
    if (at.i >= count) return;
    float v[V];
    load<V>(y + at.i, v);
#pragma unroll
    for (int j = 0; j < V; j++) v[j] += bias[at.column + j];
    store<V>(y + at.i, v);
}

// out = x + scale (branch + bias); `bias`, and `scale` of each row, may be null.
template <typename T, int V>
__device__ __forceinline__ void residual(const float *x, const T *branch, const float *bias, const float *scale,
                                         float *out, long long count, int dim) {
    const Place<V> at(dim);
    if (at.i >= count) return;
    const float factor = scale ? scale[at.row] : 1.f;
    float v[V], b[V];
    load<V>(x + at.i, v);
    load<V>(branch + at.i, b);
#pragma unroll
    for (int j = 0; j < V; j++) v[j] += factor * (b[j] + (bias ? bias[at.column + j] : 0.f));
    store<V>(out + at.i, v);
}

// The gradient of a branch: out = scale d.
template <typename T, int V>
__device__ __forceinline__ void branch_gradient(const float *d, const float *scale, T *out, long long count, int dim) {
    const Place<V> at(dim);
    if (at.i >= count) return;
    const float factor = scale ? scale[at.row] : 1.f;
    float v[V];
    load<V>(d + at.i, v);
#pragma unroll
    for (int j = 0; j < V; j++) v[j] *= factor;
    store<V>(out + at.i, v);
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
    }

KERNELS(float, f32, 1)
KERNELS(float, f32, 4)
KERNELS(bf16, bf16, 1)
KERNELS(bf16, bf16, 4)
KERNELS(f16, f16, 1)
KERNELS(f16, f16, 4)
