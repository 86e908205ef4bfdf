// Weight-normed prototypes at their lengths, and their gradients: one warp per prototype.
#include "common.cuh"

// w = v gain / |v|; `scale`: gain / |v|, `inverse`: 1 / |v| of every prototype.
template <typename T, int V>
__device__ __forceinline__ void prototypes_forward(const float *v, const float *gain, T *w, float *scale,
                                                   float *inverse, int count, int dim) {
    const int lane = threadIdx.x % 32;
    const long long k = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (k >= count) return;
    float squares = 0.f, run[V];
    for (int i = lane * V; i < dim; i += 32 * V) {
        load<V>(v + k * dim + i, run);
#pragma unroll
        for (int j = 0; j < V; j++) squares += run[j] * run[j];
    }
    const float length = sqrtf(warp_sum(squares)), by = gain[k] / length;
    for (int i = lane * V; i < dim; i += 32 * V) {
        load<V>(v + k * dim + i, run);
#pragma unroll
        for (int j = 0; j < V; j++) run[j] *= by;
        store<V>(w + k * dim + i, run);
    }
    if (lane == 0) {
        scale[k] = by;
        inverse[k] = 1.f / length;
    }
}

// With u = v / |v| and G the gradient of w: dgain = u . G, dv = gain / |v| (G - u dgain), which takes G's place.
template <int V>
__device__ __forceinline__ void prototypes_backward(const float *v, const float *scale, const float *inverse,
                                                    float *g, float *dgain, int count, int dim) {
    const int lane = threadIdx.x % 32;
    const long long k = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (k >= count) return;
    float along = 0.f, run[V], d[V];
    for (int i = lane * V; i < dim; i += 32 * V) {
        load<V>(v + k * dim + i, run);
        load<V>(g + k * dim + i, d);
#pragma unroll
        for (int j = 0; j < V; j++) along += run[j] * d[j];
    }
    along = warp_sum(along) * inverse[k];
    if (lane == 0) dgain[k] = along;
    along *= inverse[k];
    const float by = scale[k];
    for (int i = lane * V; i < dim; i += 32 * V) {
        load<V>(v + k * dim + i, run);
        load<V>(g + k * dim + i, d);
#pragma unroll
        for (int j = 0; j < V; j++) d[j] = by * (d[j] - run[j] * along);
        store<V>(g + k * dim + i, d);
    }
}

#define FORWARD(T, NAME, V)                                                                                      \
    extern "C" __global__ void sp_prototypes_forward_##NAME##_##V(const float *v, const float *gain, T *w,       \
                                                                  float *scale, float *inverse, int count,       \
                                                                  int dim) {                                     \
        prototypes_forward<T, V>(v, gain, w, scale, inverse, count, dim);                                        \
    }

#define BACKWARD(V)                                                                                             \
    extern "C" __global__ void sp_prototypes_backward_##V(const float *v, const float *scale,                   \
                                                          const float *inverse, float *g, float *dgain,         \
                                                          int count, int dim) {                                 \
        prototypes_backward<V>(v, scale, inverse, g, dgain, count, dim);                                        \
    }

FORWARD(float, f32, 1)
FORWARD(float, f32, 4)
FORWARD(bf16, bf16, 1)
FORWARD(bf16, bf16, 4)
FORWARD(f16, f16, 1)
FORWARD(f16, f16, 4)
BACKWARD(1)
BACKWARD(4)
