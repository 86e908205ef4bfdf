// Layer norm of the residual stream, with the branch that is still to be added to it: one warp per row.
#include "common.cuh"

// y = x + scale (branch + bias), out = (y - mean) inverse weight + shift. `branch` may be null: y is x then,
// and not written. `stats`: mean of every row, then 1 / standard deviation of every row.
// Shared memory: one row of floats per warp.
template <typename T, int V>
__device__ __forceinline__ void norm_forward(const float *x, const T *branch, const float *bias, const float *scale,
                                             const float *weight, const float *shift, float *y, T *out,
                                             float *stats, int rows, int dim, float eps) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const long long row = (long long)blockIdx.x * (blockDim.x / 32) + warp;
    if (row >= rows) return;
    // A lane reads what it has written itself: no barrier is needed.
    float *kept = reinterpret_cast<float *>(dynamic_shared()) + warp * dim;
    const float factor = scale ? scale[row] : 1.f;
    float sum = 0.f;
    for (int i = lane * V; i < dim; i += 32 * V) {
        float v[V];
        load<V>(x + row * dim + i, v);
        if (branch) {
            float b[V];
            load<V>(branch + row * dim + i, b);
#pragma unroll
            for (int j = 0; j < V; j++) v[j] += factor * (b[j] + (bias ? bias[i + j] : 0.f));
            store<V>(y + row * dim + i, v);
        }
        store<V>(kept + i, v);
#pragma unroll
        for (int j = 0; j < V; j++) sum += v[j];
    }
    const float mean = warp_sum(sum) / dim;
    float squares = 0.f;
    for (int i = lane * V; i < dim; i += 32 * V) {
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float d = kept[i + j] - mean;
            squares += d * d;
        }
    }
    const float inverse = 1.f / sqrtf(warp_sum(squares) / dim + eps);
    for (int i = lane * V; i < dim; i += 32 * V) {
        float v[V];
        load<V>(kept + i, v);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = (v[j] - mean) * inverse * weight[i + j] + shift[i + j];
        store<V>(out + row * dim + i, v);
    }
    if (lane == 0) {
        stats[row] = mean;
        stats[(long long)rows + row] = inverse;
    }
}

// dx += inverse (g - mean(g) - hat mean(g hat)) with g = dout weight, hat = (x - mean) inverse; each block
// leaves its sums of dout hat and of dout in `partial [blocks, 2 dim]`. `next`, if it is not null, becomes scale dx:
// the gradient of the branch that was added to the residual stream before. Shared memory: 2 dim floats per warp.
template <typename T, int V>
__device__ __forceinline__ void norm_backward(const T *dout, const float *x, const float *stats, const float *weight,
                                              float *dx, const float *scale, T *next, float *partial, int rows,
                                              int dim) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    float *sums = reinterpret_cast<float *>(dynamic_shared());
    float *dweight = sums + warp * 2 * dim, *dshift = dweight + dim;
    for (int i = lane * V; i < dim; i += 32 * V) {
#pragma unroll
        for (int j = 0; j < V; j++) dweight[i + j] = dshift[i + j] = 0.f;
    }
    for (long long row = (long long)blockIdx.x * warps + warp; row < rows; row += (long long)gridDim.x * warps) {
        const float mean = stats[row], inverse = stats[(long long)rows + row], factor = scale ? scale[row] : 1.f;
        float a = 0.f, b = 0.f;
        for (int i = lane * V; i < dim; i += 32 * V) {
            float d[V], v[V], w[V], s[V];
            load<V>(dout + row * dim + i, d);
            load<V>(x + row * dim + i, v);
            load<V>(dweight + i, w);
            load<V>(dshift + i, s);
#pragma unroll
            for (int j = 0; j < V; j++) {
                const float hat = (v[j] - mean) * inverse, g = d[j] * weight[i + j];
                a += g;
                b += g * hat;
                w[j] += d[j] * hat;
                s[j] += d[j];
            }
            store<V>(dweight + i, w);
            store<V>(dshift + i, s);
        }
        a = warp_sum(a) / dim;
        b = warp_sum(b) / dim;
        for (int i = lane * V; i < dim; i += 32 * V) {
            float d[V], v[V], g[V];
            load<V>(dout + row * dim + i, d);
            load<V>(x + row * dim + i, v);
            load<V>(dx + row * dim + i, g);
#pragma unroll
            for (int j = 0; j < V; j++) {
                const float hat = (v[j] - mean) * inverse;
                g[j] += inverse * (d[j] * weight[i + j] - a - hat * b);
            }
            store<V>(dx + row * dim + i, g);
            if (next) {
#pragma unroll
                for (int j = 0; j < V; j++) g[j] *= factor;
                store<V>(next + row * dim + i, g);
            }
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * dim; i += blockDim.x) {
        float sum = 0.f;
        for (int w = 0; w < warps; w++) sum += sums[w * 2 * dim + i];
        partial[(long long)blockIdx.x * 2 * dim + i] = sum;
    }
}

#define KERNELS(T, NAME, V)                                                                                       \
    extern "C" __global__ void __launch_bounds__(128) sp_norm_forward_##NAME##_##V(                               \
        const float *x, const T *branch, const float *bias, const float *scale, const float *weight,              \
        const float *shift, float *y, T *out, float *stats, int rows, int dim, float eps) {                       \
        norm_forward<T, V>(x, branch, bias, scale, weight, shift, y, out, stats, rows, dim, eps);                 \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(128)                                                             \
        sp_norm_backward_##NAME##_##V(const T *dout, const float *x, const float *stats, const float *weight,     \
                                      float *dx, const float *scale, T *next, float *partial, int rows, int dim) { \
        norm_backward<T, V>(dout, x, stats, weight, dx, scale, next, partial, rows, dim);                         \
    }

KERNELS(float, f32, 1)
KERNELS(float, f32, 4)
KERNELS(bf16, bf16, 1)
KERNELS(bf16, bf16, 4)
KERNELS(f16, f16, 1)
KERNELS(f16, f16, 4)
