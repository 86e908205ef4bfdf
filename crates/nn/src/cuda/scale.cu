// Scaling by a number that only the device knows.
#include "common.cuh"

// x = factor scalar x.
template <int V>
__device__ __forceinline__ void scale(float *x, const float *scalar, float factor, long long count) {
    const long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= count) return;
    const float by = factor * *scalar;
    float v[V];
    load<V>(x + i, v);
#pragma unroll
    for (int j = 0; j < V; j++) v[j] *= by;
    store<V>(x + i, v);
}

#define KERNELS(V)                                                                                              \
    extern "C" __global__ void sp_scale_##V(float *x, const float *scalar, float factor, long long count) {     \
        scale<V>(x, scalar, factor, count);                                                                     \
    }

KERNELS(1)
KERNELS(4)
