// GELU with the bias of the linear layer before it.
#include "common.cuh"

// Phi(x), the share of a normal distribution below x.
__device__ __forceinline__ float normal_cdf(float x) { return 0.5f * (1.f + erff(x * 0.70710678f)); }

// out = gelu(x + bias); `bias` may be null.
template <typename T, int V>
__device__ __forceinline__ void gelu_forward(const T *x, const float *bias, T *out, long long count, int dim) {
    const Place<V> at(dim);
    if (at.i >= count) return;
    float v[V];
    load<V>(x + at.i, v);
#pragma unroll
    for (int j = 0; j < V; j++) {
        if (bias) v[j] += bias[at.column + j];
        v[j] *= normal_cdf(v[j]);
    }
    store<V>(out + at.i, v);
}

// dx = dout gelu'(x + bias).
template <typename T, int V>
__device__ __forceinline__ void gelu_backward(const T *x, const float *bias, const T *dout, T *dx, long long count,
                                              int dim) {
    const Place<V> at(dim);
    if (at.i >= count) return;
    float v[V], d[V];
    load<V>(x + at.i, v);
    load<V>(dout + at.i, d);
#pragma unroll
    for (int j = 0; j < V; j++) {
        if (bias) v[j] += bias[at.column + j];
        const float cdf = normal_cdf(v[j]), pdf = 0.39894228f * expf(-0.5f * v[j] * v[j]);
        d[j] *= cdf + v[j] * pdf;
    }
    store<V>(dx + at.i, d);
}

#define KERNELS(T, NAME, V)                                                                                       \
    extern "C" __global__ void sp_gelu_forward_##NAME##_##V(const T *x, const float *bias, T *out,                \
                                                            long long count, int dim) {                           \
        gelu_forward<T, V>(x, bias, out, count, dim);                                                             \
    }                                                                                                             \
    extern "C" __global__ void sp_gelu_backward_##NAME##_##V(const T *x, const float *bias, const T *dout, T *dx, \
                                                             long long count, int dim) {                          \
        gelu_backward<T, V>(x, bias, dout, dx, count, dim);                                                       \
    }

KERNELS(float, f32, 1)
KERNELS(float, f32, 4)
KERNELS(bf16, bf16, 1)
KERNELS(bf16, bf16, 8)
KERNELS(f16, f16, 1)
KERNELS(f16, f16, 8)
