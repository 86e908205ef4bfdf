// Multi-head self-attention within each sequence of a packed batch, tile by tile: the matrix of
// probabilities never exists as a whole.
//
// qkv [T, 3 D] are products without their bias. That of the queries is added here; that of the keys adds
// the same to all scores of a query, which softmax ignores; that of the values is added to the output,
// since probabilities sum to 1. Blocks: (sequence, head, tile of queries or keys).
#include "mma.cuh"
#include "sequence.cuh"

// On the tensor cores: 16-bit numbers, D channels per head, 4 warps.

#define NEAR 64 // rows of a block's own tile
#define FAR 32  // rows of a tile of the other side
#define LOG2E 1.44269504f

// D channels of up to ROWS rows from `from` (of row length `stride`) to `to` [ROWS, D + 8]; rows from `count`
// on become zero. `bias` may be null.
template <typename T, int D, int ROWS>
__device__ __forceinline__ void copy_tile(T *to, const T *from, long long stride, int count, const float *bias) {
    for (int i = threadIdx.x; i < ROWS * D / 8; i += 32 * WARPS) {
        const int row = i / (D / 8), column = i % (D / 8) * 8;
        if (!bias) {
            Run<T, 8> run = {};
            if (row < count) {
                CHECK_RUN(from + row * stride + column, sizeof(run));
                run = *reinterpret_cast<const Run<T, 8> *>(from + row * stride + column);
            }
            *reinterpret_cast<Run<T, 8> *>(to + row * (D + 8) + column) = run;
            continue;
        }
        float v[8] = {0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
        if (row < count) {
            load<8>(from + row * stride + column, v);
            if (bias) {
#pragma unroll
                for (int j = 0; j < 8; j++) v[j] += bias[column + j];
            }
        }
        store<8>(to + row * (D + 8) + column, v);
    }
}

// This warp's 16 rows of a tile [.., D + 8] as left factors.
template <typename T, int D> __device__ __forceinline__ void left(uint32_t (&a)[D / 16][4], const T *tile) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const T *rows = tile + (threadIdx.x / 32) * 16 * (D + 8);
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int row = g + i % 2 * 8, column = k * 16 + 2 * t + i / 2 * 8;
            a[k][i] = *reinterpret_cast<const uint32_t *>(rows + row * (D + 8) + column);
        }
    }
}

// c [16, N] = a tile^T, `tile` [N, D + 8].
template <typename T, int D, int N>
__device__ __forceinline__ void scores(float (&c)[N / 8][4], const uint32_t (&a)[D / 16][4], const T *tile) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int n = 0; n < N / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) c[n][i] = 0.f;
        const T *row = tile + (n * 8 + g) * (D + 8);
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
            const uint32_t b[2] = {*reinterpret_cast<const uint32_t *>(row + k * 16 + 2 * t),
                                   *reinterpret_cast<const uint32_t *>(row + k * 16 + 2 * t + 8)};
            mma<T>(c[n], a[k], b);
        }
    }
}

// c [16, D] += p tile, `p` [16, N] as it came out of `scores`, `tile` [N, D + 8].
template <typename T, int D, int N>
__device__ __forceinline__ void accumulate(float (&c)[D / 8][4], const float (&p)[N / 8][4], const T *tile) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < N / 16; k++) {
        const uint32_t a[4] = {pack<T>(p[2 * k][0], p[2 * k][1]), pack<T>(p[2 * k][2], p[2 * k][3]),
                               pack<T>(p[2 * k + 1][0], p[2 * k + 1][1]), pack<T>(p[2 * k + 1][2], p[2 * k + 1][3])};
        const T *row = tile + (k * 16 + lane / 8 % 2 * 8 + lane % 8) * (D + 8) + lane / 16 * 8;
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t b[4];
            load_transposed(b, row + n * 16);
            const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
            mma<T>(c[2 * n], a, low);
            mma<T>(c[2 * n + 1], a, high);
        }
    }
}

// Rows of this lane in the block's tile: which + 8 for `which` 1.
__device__ __forceinline__ int own_row(int which) {
    return threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + which * 8;
}

// This warp's rows of a result [16, D], times `factor` of the row, plus `bias` (may be null).
template <typename T, int D>
__device__ __forceinline__ void write_rows(T *to, long long stride, int count, const float (&c)[D / 8][4],
                                           const float (&factor)[2], const float *bias) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int which = 0; which < 2; which++) {
        const int row = own_row(which);
        if (row >= count) continue;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            const int column = n * 8 + 2 * t;
            float v[2] = {c[n][2 * which] * factor[which], c[n][2 * which + 1] * factor[which]};
            if (bias) {
                v[0] += bias[column];
                v[1] += bias[column + 1];
            }
            store<2>(to + row * stride + column, v);
        }
    }
}

// out [T, D heads]; lse [heads, T]: the logarithm of each query's sum of exponentials.
template <typename T, int D>
__device__ __forceinline__ void forward(const T *qkv, const float *bias, const uint32_t *starts, T *out, float *lse,
                                        int heads, int tokens, float scale) {
    const Sequence s = sequence(starts);
    const int first = blockIdx.z * NEAR, h = blockIdx.y, width = heads * D;
    if (first >= s.length) return;
    const int count = min(NEAR, s.length - first);
    T *near = reinterpret_cast<T *>(dynamic_shared()), *keys = near + NEAR * (D + 8), *values = keys + FAR * (D + 8);
    const T *base = qkv + s.first * 3 * width + h * D;
    copy_tile<T, D, NEAR>(near, base + (long long)first * 3 * width, 3 * width, count, bias ? bias + h * D : nullptr);
    __syncthreads();
    uint32_t q[D / 16][4];
    left<T, D>(q, near);
    float o[D / 8][4], top[2] = {-INFINITY, -INFINITY}, sum[2] = {0.f, 0.f};
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) o[n][i] = 0.f;
    }
    const float unit = scale * LOG2E;
    const int t = threadIdx.x % 4;
    for (int key = 0; key < s.length; key += FAR) {
        const int left_over = min(FAR, s.length - key);
        const T *tile = base + (long long)key * 3 * width;
        __syncthreads();
        copy_tile<T, D, FAR>(keys, tile + width, 3 * width, left_over, nullptr);
        copy_tile<T, D, FAR>(values, tile + 2 * width, 3 * width, left_over, nullptr);
        __syncthreads();
        float p[FAR / 8][4];
        scores<T, D, FAR>(p, q, keys);
        float higher[2] = {top[0], top[1]};
#pragma unroll
        for (int n = 0; n < FAR / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                p[n][i] = n * 8 + 2 * t + i % 2 < left_over ? p[n][i] * unit : -INFINITY;
                higher[i / 2] = fmaxf(higher[i / 2], p[n][i]);
            }
        }
#pragma unroll
        for (int which = 0; which < 2; which++) {
            higher[which] = fmaxf(higher[which], __shfl_xor_sync(FULL_WARP, higher[which], 1));
            higher[which] = fmaxf(higher[which], __shfl_xor_sync(FULL_WARP, higher[which], 2));
            const float shrink = exp2f(top[which] - higher[which]);
            top[which] = higher[which];
            sum[which] *= shrink;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                o[n][2 * which] *= shrink;
                o[n][2 * which + 1] *= shrink;
            }
        }
#pragma unroll
        for (int n = 0; n < FAR / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                p[n][i] = exp2f(p[n][i] - top[i / 2]);
                sum[i / 2] += p[n][i];
            }
        }
        accumulate<T, D, FAR>(o, p, values);
    }
    float inverse[2];
#pragma unroll
    for (int which = 0; which < 2; which++) {
        sum[which] += __shfl_xor_sync(FULL_WARP, sum[which], 1);
        sum[which] += __shfl_xor_sync(FULL_WARP, sum[which], 2);
        inverse[which] = 1.f / sum[which];
        const int row = own_row(which);
        if (t == 0 && row < count)
            lse[(long long)h * tokens + s.first + first + row] = (top[which] + log2f(sum[which])) / LOG2E;
    }
    write_rows<T, D>(out + (s.first + first) * width + h * D, width, count, o, inverse,
                     bias ? bias + 2 * width + h * D : nullptr);
}

// What one query contributes to the gradients, from scores s and dP = dO V^T: P and dS.
__device__ __forceinline__ void softmax_gradient(float &s, float &dp, float unit, float lse, float delta, bool there) {
    s = there ? exp2f(s * unit - lse * LOG2E) : 0.f;
    dp = there ? s * (dp - delta) : 0.f;
}

// dqkv [T, 3 D heads]: the queries' third.
template <typename T, int D>
__device__ __forceinline__ void backward_queries(const T *qkv, const float *bias, const uint32_t *starts,
                                                 const T *dout, const float *lse, const float *delta, T *dqkv,
                                                 int heads, int tokens, float scale) {
    const Sequence s = sequence(starts);
    const int first = blockIdx.z * NEAR, h = blockIdx.y, width = heads * D;
    if (first >= s.length) return;
    const int count = min(NEAR, s.length - first);
    T *near = reinterpret_cast<T *>(dynamic_shared()), *keys = near + NEAR * (D + 8), *values = keys + FAR * (D + 8);
    const T *base = qkv + s.first * 3 * width + h * D;
    uint32_t q[D / 16][4], d[D / 16][4];
    copy_tile<T, D, NEAR>(near, base + (long long)first * 3 * width, 3 * width, count, bias ? bias + h * D : nullptr);
    __syncthreads();
    left<T, D>(q, near);
    __syncthreads();
    copy_tile<T, D, NEAR>(near, dout + (s.first + first) * width + h * D, width, count, nullptr);
    __syncthreads();
    left<T, D>(d, near);
    float dq[D / 8][4], own_lse[2], own_delta[2];
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) dq[n][i] = 0.f;
    }
#pragma unroll
    for (int which = 0; which < 2; which++) {
        const int row = own_row(which);
        const long long at = (long long)h * tokens + s.first + first + row;
        own_lse[which] = row < count ? lse[at] : 0.f;
        own_delta[which] = row < count ? delta[at] : 0.f;
    }
    const float unit = scale * LOG2E;
    const int t = threadIdx.x % 4;
    for (int key = 0; key < s.length; key += FAR) {
        const int left_over = min(FAR, s.length - key);
        const T *tile = base + (long long)key * 3 * width;
        __syncthreads();
        copy_tile<T, D, FAR>(keys, tile + width, 3 * width, left_over, nullptr);
        copy_tile<T, D, FAR>(values, tile + 2 * width, 3 * width, left_over, nullptr);
        __syncthreads();
        float p[FAR / 8][4], ds[FAR / 8][4];
        scores<T, D, FAR>(p, q, keys);
        scores<T, D, FAR>(ds, d, values);
#pragma unroll
        for (int n = 0; n < FAR / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const bool there = n * 8 + 2 * t + i % 2 < left_over;
                softmax_gradient(p[n][i], ds[n][i], unit, own_lse[i / 2], own_delta[i / 2], there);
            }
        }
        accumulate<T, D, FAR>(dq, ds, keys);
    }
    const float factor[2] = {scale, scale};
    write_rows<T, D>(dqkv + (s.first + first) * 3 * width + h * D, 3 * width, count, dq, factor, nullptr);
}

// dqkv [T, 3 D heads]: the thirds of keys and values.
template <typename T, int D>
__device__ __forceinline__ void backward_keys(const T *qkv, const float *bias, const uint32_t *starts, const T *dout,
                                              const float *lse, const float *delta, T *dqkv, int heads, int tokens,
                                              float scale) {
    const Sequence s = sequence(starts);
    const int first = blockIdx.z * NEAR, h = blockIdx.y, width = heads * D;
    if (first >= s.length) return;
    const int count = min(NEAR, s.length - first);
    T *near = reinterpret_cast<T *>(dynamic_shared()), *queries = near + NEAR * (D + 8), *douts = queries + FAR * (D + 8);
    float *lses = reinterpret_cast<float *>(douts + FAR * (D + 8)), *deltas = lses + FAR;
    const T *base = qkv + s.first * 3 * width + h * D, *own = base + (long long)first * 3 * width;
    uint32_t k[D / 16][4], v[D / 16][4];
    copy_tile<T, D, NEAR>(near, own + width, 3 * width, count, nullptr);
    __syncthreads();
    left<T, D>(k, near);
    __syncthreads();
    copy_tile<T, D, NEAR>(near, own + 2 * width, 3 * width, count, nullptr);
    __syncthreads();
    left<T, D>(v, near);
    float dk[D / 8][4], dv[D / 8][4];
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) dk[n][i] = dv[n][i] = 0.f;
    }
    const float unit = scale * LOG2E;
    const int t = threadIdx.x % 4;
    for (int query = 0; query < s.length; query += FAR) {
        const int left_over = min(FAR, s.length - query);
        __syncthreads();
        copy_tile<T, D, FAR>(queries, base + (long long)query * 3 * width, 3 * width, left_over,
                             bias ? bias + h * D : nullptr);
        copy_tile<T, D, FAR>(douts, dout + (s.first + query) * width + h * D, width, left_over, nullptr);
        if (threadIdx.x < FAR) {
            const long long at = (long long)h * tokens + s.first + query + threadIdx.x;
            lses[threadIdx.x] = threadIdx.x < left_over ? lse[at] : 0.f;
            deltas[threadIdx.x] = threadIdx.x < left_over ? delta[at] : 0.f;
        }
        __syncthreads();
        float p[FAR / 8][4], ds[FAR / 8][4]; // transposed: a row is a key
        scores<T, D, FAR>(p, k, queries);
        scores<T, D, FAR>(ds, v, douts);
#pragma unroll
        for (int n = 0; n < FAR / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int column = n * 8 + 2 * t + i % 2;
                softmax_gradient(p[n][i], ds[n][i], unit, lses[column], deltas[column], column < left_over);
            }
        }
        accumulate<T, D, FAR>(dv, p, douts);
        accumulate<T, D, FAR>(dk, ds, queries);
    }
    const float factor[2] = {scale, scale}, one[2] = {1.f, 1.f};
    T *to = dqkv + (s.first + first) * 3 * width + h * D;
    write_rows<T, D>(to + width, 3 * width, count, dk, factor, nullptr);
    write_rows<T, D>(to + 2 * width, 3 * width, count, dv, one, nullptr);
}

#define TENSOR_CORES(T, NAME, D)                                                                                  \
    extern "C" __global__ void BLOCK sp_attention_forward_##NAME##_##D(                                           \
        const T *qkv, const float *bias, const uint32_t *starts, T *out, float *lse, int heads, int d,            \
        int tokens, float scale) {                                                                                \
        forward<T, D>(qkv, bias, starts, out, lse, heads, tokens, scale);                                         \
    }                                                                                                             \
    extern "C" __global__ void BLOCK sp_attention_backward_queries_##NAME##_##D(                                  \
        const T *qkv, const float *bias, const uint32_t *starts, const T *dout, const float *lse,                 \
        const float *delta, T *dqkv, int heads, int d, int tokens, float scale) {                                 \
        backward_queries<T, D>(qkv, bias, starts, dout, lse, delta, dqkv, heads, tokens, scale);                  \
    }                                                                                                             \
    extern "C" __global__ void BLOCK sp_attention_backward_keys_##NAME##_##D(                                     \
        const T *qkv, const float *bias, const uint32_t *starts, const T *dout, const float *lse,                 \
        const float *delta, T *dqkv, int heads, int d, int tokens, float scale) {                                 \
        backward_keys<T, D>(qkv, bias, starts, dout, lse, delta, dqkv, heads, tokens, scale);                     \
    }

TENSOR_CORES(bf16, bf16, 32)
TENSOR_CORES(bf16, bf16, 64)
TENSOR_CORES(bf16, bf16, 128)
TENSOR_CORES(f16, f16, 32)
TENSOR_CORES(f16, f16, 64)
TENSOR_CORES(f16, f16, 128)
