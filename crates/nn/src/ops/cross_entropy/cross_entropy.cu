// Losses between rows of logits: one block of whole warps per row. A row is read once for its sums, which follow
// its largest element as that is found, and once more for what is made of them.
#include "common.cuh"
#include <float.h>

// Of each of N numbers the sum over the block, in the same order on every thread.
template <int N> __device__ __forceinline__ void block_sums(float (&v)[N]) {
    __shared__ float scratch[N][32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
#pragma unroll
    for (int i = 0; i < N; i++) {
        v[i] = warp_sum(v[i]);
        if (lane == 0) scratch[i][warp] = v[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N; i++) v[i] = warp_sum(lane < warps ? scratch[i][lane] : 0.f);
    __syncthreads();
}

template <int V> __device__ __forceinline__ float largest(const float (&v)[V]) {
    float top = v[0];
#pragma unroll
    for (int j = 1; j < V; j++) top = fmaxf(top, v[j]);
    return top;
}

// Raises `top`; returns what the sum of exp((x - top) inverse) is to be multiplied with.
__device__ __forceinline__ float raise(float &top, float to, float inverse) {
    if (!(to > top)) return 1.f;
    const float factor = expf((top - to) * inverse);
    top = to;
    return factor;
}

// Logits s against weights q. A NaN among them makes NaNs of sums, not of maxima.
struct Match {
    // Largest s so far; sum of exp((s - top) inverse); sum of q; sum of q (s - top).
    float top = -FLT_MAX, total = 0.f, mass = 0.f, match = 0.f;

    __device__ __forceinline__ void rise(float to, float inverse) {
        const float before = top;
        total *= raise(top, to, inverse);
        match += mass * (before - top);
    }

    // All q so far were to be smaller.
    __device__ __forceinline__ void fade(float factor) {
        mass *= factor;
        match *= factor;
    }

    __device__ __forceinline__ void take(float s, float q, float inverse) {
        total += expf((s - top) * inverse);
        match += (s - top) * q;
        mass += q;
    }

    // From the sums of each thread to those of the block.
    __device__ __forceinline__ void join(float inverse, float *scratch) {
        rise(block_max(top, scratch), inverse);
        float sums[3] = {total, mass, match};
        block_sums(sums);
        total = sums[0];
        mass = sums[1];
        match = sums[2];
    }

    // The cross-entropy, if q were divided by `mass`.
    __device__ __forceinline__ float mean(float inverse) const { return logf(total) - match / mass * inverse; }
};

template <int V>
__device__ __forceinline__ void load_centred(const float *t, const float *center, int i, float (&q)[V]) {
    float c[V];
    load<V>(t + i, q);
    load<V>(center + i, c);
#pragma unroll
    for (int j = 0; j < V; j++) q[j] -= c[j];
}

// losses = the cross-entropy of each row s with q = softmax((t - center) sharp), and if `d` is not null
// d = weight soft (softmax(s soft) - q).
template <typename T, int V>
__device__ __forceinline__ void matched(const float *s, const float *t, const float *center, const float *weights,
                                        float *losses, T *d, int k, float soft, float sharp) {
    __shared__ float scratch[32];
    const long long row = blockIdx.x;
    s += row * k;
    t += row * k;
    Match sums;
    float top = -FLT_MAX, x[V], q[V];
    for (int i = threadIdx.x * V; i < k; i += blockDim.x * V) {
        load<V>(s + i, x);
        load_centred<V>(t, center, i, q);
        sums.rise(largest(x), soft);
        sums.fade(raise(top, largest(q), sharp));
#pragma unroll
        for (int j = 0; j < V; j++) sums.take(x[j], expf((q[j] - top) * sharp), soft);
    }
    sums.fade(raise(top, block_max(top, scratch), sharp));
    sums.join(soft, scratch);
    if (threadIdx.x == 0) losses[row] = sums.mean(soft);
    if (!d) return;
    d += row * k;
    const float weight = weights[row] * soft, a = weight / sums.total, b = weight / sums.mass;
    for (int i = threadIdx.x * V; i < k; i += blockDim.x * V) {
        load<V>(s + i, x);
        load_centred<V>(t, center, i, q);
#pragma unroll
        for (int j = 0; j < V; j++) x[j] = a * expf((x[j] - sums.top) * soft) - b * expf((q[j] - top) * sharp);
        store<V>(d + i, x);
    }
}

// p = softmax((t - center) sharp), and its entropy in nats.
template <int V>
__device__ __forceinline__ void sharpened(const float *t, const float *center, float *p, float *entropies, int k,
                                          float sharp) {
    __shared__ float scratch[32];
    const long long row = blockIdx.x;
    t += row * k;
    p += row * k;
    Match sums; // with itself
    float q[V];
    for (int i = threadIdx.x * V; i < k; i += blockDim.x * V) {
        load_centred<V>(t, center, i, q);
        float top = sums.top;
        sums.rise(largest(q), sharp);
        sums.fade(raise(top, largest(q), sharp));
#pragma unroll
        for (int j = 0; j < V; j++) sums.take(q[j], expf((q[j] - sums.top) * sharp), sharp);
    }
    float top = sums.top;
    sums.fade(raise(top, block_max(top, scratch), sharp));
    sums.join(sharp, scratch);
    if (threadIdx.x == 0) entropies[row] = sums.mean(sharp);
    for (int i = threadIdx.x * V; i < k; i += blockDim.x * V) {
        load_centred<V>(t, center, i, q);
#pragma unroll
        for (int j = 0; j < V; j++) q[j] = expf((q[j] - sums.top) * sharp) / sums.total;
        store<V>(p + i, q);
    }
}

// The sum of the rows of p that are numbered in pairs[pairs[row] .. pairs[row + 1]].
template <int V>
__device__ __forceinline__ void target(const float *p, const unsigned *pairs, long long row, int k, int i,
                                       float (&q)[V]) {
#pragma unroll
    for (int j = 0; j < V; j++) q[j] = 0.f;
    for (unsigned pair = pairs[row]; pair < pairs[row + 1]; pair++) {
        float more[V];
        load<V>(p + (long long)pairs[pair] * k + i, more);
#pragma unroll
        for (int j = 0; j < V; j++) q[j] += more[j];
    }
}

// losses = the cross-entropy of each row s with its target; what the gradient needs goes to `sums [R, 2]`.
template <int V>
__device__ __forceinline__ void paired_loss(const float *s, const float *p, const unsigned *pairs, float *losses,
                                            float *sums, int k, float soft) {
    __shared__ float scratch[32];
    const long long row = blockIdx.x;
    s += row * k;
    Match match;
    float x[V], q[V];
    for (int i = threadIdx.x * V; i < k; i += blockDim.x * V) {
        load<V>(s + i, x);
        target<V>(p, pairs, row, k, i, q);
        match.rise(largest(x), soft);
#pragma unroll
        for (int j = 0; j < V; j++) match.take(x[j], q[j], soft);
    }
    match.join(soft, scratch);
    if (threadIdx.x > 0) return;
    losses[row] = match.mass * logf(match.total) - match.match * soft;
    sums[2 * row] = match.top;
    sums[2 * row + 1] = match.mass / match.total;
}

// d = dloss weight soft (mass softmax(s soft) - target).
template <int V>
__device__ __forceinline__ void paired_gradient(const float *s, const float *p, const unsigned *pairs,
                                                const float *sums, const float *weights, const float *dloss, float *d,
                                                int k, float soft) {
    const long long row = blockIdx.x;
    s += row * k;
    d += row * k;
    const float top = sums[2 * row], ratio = sums[2 * row + 1], weight = *dloss * weights[row] * soft;
    float x[V], q[V];
    for (int i = threadIdx.x * V; i < k; i += blockDim.x * V) {
        load<V>(s + i, x);
        target<V>(p, pairs, row, k, i, q);
#pragma unroll
        for (int j = 0; j < V; j++) x[j] = weight * (ratio * expf((x[j] - top) * soft) - q[j]);
        store<V>(d + i, x);
    }
}

// out = factor times the sum of all values, each multiplied with its weight if `weights` is not null: one block.
extern "C" __global__ void __launch_bounds__(1024)
    sp_weighted_sum(const float *values, const float *weights, float factor, float *out, int count) {
    float sum[1] = {0.f};
    for (int i = threadIdx.x; i < count; i += blockDim.x) sum[0] += weights ? values[i] * weights[i] : values[i];
    block_sums(sum);
    if (threadIdx.x == 0) *out = factor * sum[0];
}

#define MATCHED(T, NAME, V)                                                                                      \
    extern "C" __global__ void __launch_bounds__(1024)                                                           \
        sp_matched_##NAME##_##V(const float *s, const float *t, const float *center, const float *weights,       \
                                float *losses, T *d, int k, float soft, float sharp) {                           \
        matched<T, V>(s, t, center, weights, losses, d, k, soft, sharp);                                         \
    }

MATCHED(float, f32, 1)
MATCHED(float, f32, 4)
MATCHED(bf16, bf16, 1)
MATCHED(bf16, bf16, 4)
MATCHED(f16, f16, 1)
MATCHED(f16, f16, 4)

#define KERNELS(V)                                                                                               \
    extern "C" __global__ void __launch_bounds__(1024)                                                           \
        sp_sharpened_##V(const float *t, const float *center, float *p, float *entropies, int k, float sharp) {  \
        sharpened<V>(t, center, p, entropies, k, sharp);                                                         \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(1024)                                                           \
        sp_paired_loss_##V(const float *s, const float *p, const unsigned *pairs, float *losses, float *sums,    \
                           int k, float soft) {                                                                  \
        paired_loss<V>(s, p, pairs, losses, sums, k, soft);                                                      \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(1024)                                                           \
        sp_paired_gradient_##V(const float *s, const float *p, const unsigned *pairs, const float *sums,         \
                               const float *weights, const float *dloss, float *d, int k, float soft) {          \
        paired_gradient<V>(s, p, pairs, sums, weights, dloss, d, k, soft);                                       \
    }

KERNELS(1)
KERNELS(4)
