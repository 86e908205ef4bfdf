// Multi-head self-attention within each sequence of a packed batch, tile by tile: the matrix of
// probabilities never exists as a whole.
//
// qkv [T, 3 D] are products without their bias. That of the queries is added here; that of the keys adds
// the same to all scores of a query, which softmax ignores; that of the values is added to the output,
// since probabilities sum to 1. Blocks: (sequence, head, tile of queries or keys).
#include "mma.cuh"

// Which rows of the batch belong to a block's sequence.
struct Sequence {
    long long first;
    int length;
};

__device__ __forceinline__ Sequence sequence(const uint32_t *starts) {
    const uint32_t begin = starts[blockIdx.x], end = starts[blockIdx.x + 1];
    return {(long long)begin, (int)(end - begin)};
}

// ---------------------------------------------------------------------------------------------------------
// On the tensor cores: 16-bit numbers, D channels per head, 4 warps.

#define WARPS 4
#define NEAR 64 // rows of a block's own tile
#define FAR 32  // rows of a tile of the other side
#define LOG2E 1.44269504f

// D channels of up to ROWS rows from `from` (of row length `stride`) to `to` [ROWS, D + 8]; rows from `count`
// on become zero. `bias` may be null.
template <typename T, int D, int ROWS>
__device__ __forceinline__ void copy_tile(T *to, const T *from, long long stride, int count, const float *bias) {
    for (int i = threadIdx.x; i < ROWS * D / 8; i += 32 * WARPS) {
        const int row = i / (D / 8), column = i % (D / 8) * 8;
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

// ---------------------------------------------------------------------------------------------------------
// Without tensor cores: f32 throughout, heads of any width up to 32 C, 4 warps. A warp takes 8 rows of the
// block's own tile; its lanes stand for the rows of the other tile, then for channels.

#define TILE 32
#define EACH (TILE / WARPS)

// Up to TILE rows of d channels -> `to` [TILE, d + 1]; rows from `count` on become zero.
template <typename T>
__device__ __forceinline__ void plain_tile(float *to, const T *from, long long stride, int count, int d,
                                           const float *bias) {
    for (int i = threadIdx.x; i < TILE * d; i += 32 * WARPS) {
        const int row = i / d, column = i % d;
        float v = 0.f;
        if (row < count) v = to_float(from[row * stride + column]) + (bias ? bias[column] : 0.f);
        to[row * (d + 1) + column] = v;
    }
}

__device__ __forceinline__ float dot(const float *a, const float *b, int d) {
    float sum = 0.f;
    for (int c = 0; c < d; c++) sum += a[c] * b[c];
    return sum;
}

template <typename T, int C>
__device__ __forceinline__ void plain_forward(const T *qkv, const float *bias, const uint32_t *starts, T *out,
                                              float *lse, int heads, int d, int tokens, float scale) {
    const Sequence s = sequence(starts);
    const int first = blockIdx.z * TILE, h = blockIdx.y, width = heads * d;
    if (first >= s.length) return;
    const int count = min(TILE, s.length - first), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float *queries = reinterpret_cast<float *>(dynamic_shared()), *keys = queries + TILE * (d + 1);
    float *values = keys + TILE * (d + 1), *probabilities = values + TILE * (d + 1) + warp * EACH * TILE;
    const T *base = qkv + s.first * 3 * width + h * d;
    plain_tile(queries, base + (long long)first * 3 * width, 3 * width, count, d, bias ? bias + h * d : nullptr);
    float o[EACH][C], top[EACH], sum[EACH];
#pragma unroll
    for (int r = 0; r < EACH; r++) {
        top[r] = -INFINITY;
        sum[r] = 0.f;
#pragma unroll
        for (int c = 0; c < C; c++) o[r][c] = 0.f;
    }
    for (int key = 0; key < s.length; key += TILE) {
        const int left_over = min(TILE, s.length - key);
        const T *tile = base + (long long)key * 3 * width;
        __syncthreads();
        plain_tile(keys, tile + width, 3 * width, left_over, d, nullptr);
        plain_tile(values, tile + 2 * width, 3 * width, left_over, d, nullptr);
        __syncthreads();
#pragma unroll
        for (int r = 0; r < EACH; r++) {
            const float score = dot(queries + (warp * EACH + r) * (d + 1), keys + lane * (d + 1), d) * scale;
            const float higher = fmaxf(top[r], warp_max(lane < left_over ? score : -INFINITY));
            const float shrink = expf(top[r] - higher), p = lane < left_over ? expf(score - higher) : 0.f;
            top[r] = higher;
            sum[r] = sum[r] * shrink + warp_sum(p);
#pragma unroll
            for (int c = 0; c < C; c++) o[r][c] *= shrink;
            probabilities[r * TILE + lane] = p;
        }
        __syncwarp();
        for (int j = 0; j < left_over; j++) {
#pragma unroll
            for (int c = 0; c < C; c++) {
                const int column = lane + 32 * c;
                const float v = column < d ? values[j * (d + 1) + column] : 0.f;
#pragma unroll
                for (int r = 0; r < EACH; r++) o[r][c] += probabilities[r * TILE + j] * v;
            }
        }
        __syncwarp();
    }
    for (int r = 0; r < EACH; r++) {
        const int row = warp * EACH + r;
        if (row >= count) break;
        const long long at = s.first + first + row;
        if (lane == 0) lse[(long long)h * tokens + at] = top[r] + logf(sum[r]);
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int column = lane + 32 * c;
            if (column >= d) continue;
            const float b = bias ? bias[2 * width + h * d + column] : 0.f;
            out[at * width + h * d + column] = from_float<T>(o[r][c] / sum[r] + b);
        }
    }
}

template <typename T, int C>
__device__ __forceinline__ void plain_backward_queries(const T *qkv, const float *bias, const uint32_t *starts,
                                                       const T *dout, const float *lse, const float *delta, T *dqkv,
                                                       int heads, int d, int tokens, float scale) {
    const Sequence s = sequence(starts);
    const int first = blockIdx.z * TILE, h = blockIdx.y, width = heads * d;
    if (first >= s.length) return;
    const int count = min(TILE, s.length - first), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float *queries = reinterpret_cast<float *>(dynamic_shared()), *douts = queries + TILE * (d + 1);
    float *keys = douts + TILE * (d + 1), *values = keys + TILE * (d + 1);
    float *gradients = values + TILE * (d + 1) + warp * EACH * TILE;
    const T *base = qkv + s.first * 3 * width + h * d;
    plain_tile(queries, base + (long long)first * 3 * width, 3 * width, count, d, bias ? bias + h * d : nullptr);
    plain_tile(douts, dout + (s.first + first) * width + h * d, width, count, d, nullptr);
    float dq[EACH][C];
#pragma unroll
    for (int r = 0; r < EACH; r++) {
#pragma unroll
        for (int c = 0; c < C; c++) dq[r][c] = 0.f;
    }
    for (int key = 0; key < s.length; key += TILE) {
        const int left_over = min(TILE, s.length - key);
        const T *tile = base + (long long)key * 3 * width;
        __syncthreads();
        plain_tile(keys, tile + width, 3 * width, left_over, d, nullptr);
        plain_tile(values, tile + 2 * width, 3 * width, left_over, d, nullptr);
        __syncthreads();
        for (int r = 0; r < EACH; r++) {
            const int row = warp * EACH + r;
            float ds = 0.f;
            if (row < count && lane < left_over) {
                const long long at = (long long)h * tokens + s.first + first + row;
                const float p = expf(dot(queries + row * (d + 1), keys + lane * (d + 1), d) * scale - lse[at]);
                ds = p * (dot(douts + row * (d + 1), values + lane * (d + 1), d) - delta[at]);
            }
            gradients[r * TILE + lane] = ds;
        }
        __syncwarp();
        for (int j = 0; j < left_over; j++) {
#pragma unroll
            for (int c = 0; c < C; c++) {
                const int column = lane + 32 * c;
                const float k = column < d ? keys[j * (d + 1) + column] : 0.f;
#pragma unroll
                for (int r = 0; r < EACH; r++) dq[r][c] += gradients[r * TILE + j] * k;
            }
        }
        __syncwarp();
    }
#pragma unroll
    for (int r = 0; r < EACH; r++) {
        const int row = warp * EACH + r;
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int column = lane + 32 * c;
            if (row < count && column < d)
                dqkv[(s.first + first + row) * 3 * width + h * d + column] = from_float<T>(dq[r][c] * scale);
        }
    }
}

template <typename T, int C>
__device__ __forceinline__ void plain_backward_keys(const T *qkv, const float *bias, const uint32_t *starts,
                                                    const T *dout, const float *lse, const float *delta, T *dqkv,
                                                    int heads, int d, int tokens, float scale) {
    const Sequence s = sequence(starts);
    const int first = blockIdx.z * TILE, h = blockIdx.y, width = heads * d;
    if (first >= s.length) return;
    const int count = min(TILE, s.length - first), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float *keys = reinterpret_cast<float *>(dynamic_shared()), *values = keys + TILE * (d + 1);
    float *queries = values + TILE * (d + 1), *douts = queries + TILE * (d + 1);
    float *probabilities = douts + TILE * (d + 1) + warp * 2 * EACH * TILE, *gradients = probabilities + EACH * TILE;
    const T *base = qkv + s.first * 3 * width + h * d, *own = base + (long long)first * 3 * width;
    plain_tile(keys, own + width, 3 * width, count, d, nullptr);
    plain_tile(values, own + 2 * width, 3 * width, count, d, nullptr);
    float dk[EACH][C], dv[EACH][C];
#pragma unroll
    for (int r = 0; r < EACH; r++) {
#pragma unroll
        for (int c = 0; c < C; c++) dk[r][c] = dv[r][c] = 0.f;
    }
    for (int query = 0; query < s.length; query += TILE) {
        const int left_over = min(TILE, s.length - query);
        __syncthreads();
        plain_tile(queries, base + (long long)query * 3 * width, 3 * width, left_over, d,
                   bias ? bias + h * d : nullptr);
        plain_tile(douts, dout + (s.first + query) * width + h * d, width, left_over, d, nullptr);
        __syncthreads();
        for (int r = 0; r < EACH; r++) {
            const int row = warp * EACH + r;
            float p = 0.f, ds = 0.f;
            if (row < count && lane < left_over) {
                const long long at = (long long)h * tokens + s.first + query + lane;
                p = expf(dot(keys + row * (d + 1), queries + lane * (d + 1), d) * scale - lse[at]);
                ds = p * (dot(values + row * (d + 1), douts + lane * (d + 1), d) - delta[at]);
            }
            probabilities[r * TILE + lane] = p;
            gradients[r * TILE + lane] = ds;
        }
        __syncwarp();
        for (int j = 0; j < left_over; j++) {
#pragma unroll
            for (int c = 0; c < C; c++) {
                const int column = lane + 32 * c;
                const float q = column < d ? queries[j * (d + 1) + column] : 0.f;
                const float g = column < d ? douts[j * (d + 1) + column] : 0.f;
#pragma unroll
                for (int r = 0; r < EACH; r++) {
                    dk[r][c] += gradients[r * TILE + j] * q;
                    dv[r][c] += probabilities[r * TILE + j] * g;
                }
            }
        }
        __syncwarp();
    }
#pragma unroll
    for (int r = 0; r < EACH; r++) {
        const int row = warp * EACH + r;
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int column = lane + 32 * c;
            if (row < count && column < d) {
                T *to = dqkv + (s.first + first + row) * 3 * width + h * d + column;
                to[width] = from_float<T>(dk[r][c] * scale);
                to[2 * width] = from_float<T>(dv[r][c]);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------

// delta [heads, tokens]: dout . (out - bias of the values), what dP is compared with. One warp per row.
template <typename T>
__device__ __forceinline__ void deltas(const T *out, const T *dout, const float *bias, float *delta, int heads, int d,
                                       int tokens) {
    const int lane = threadIdx.x % 32, row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, width = heads * d;
    if (row >= tokens) return;
    for (int h = 0; h < heads; h++) {
        float sum = 0.f;
        for (int c = lane; c < d; c += 32) {
            const long long at = (long long)row * width + h * d + c;
            const float b = bias ? bias[2 * width + h * d + c] : 0.f;
            sum += to_float(dout[at]) * (to_float(out[at]) - b);
        }
        sum = warp_sum(sum);
        if (lane == 0) delta[(long long)h * tokens + row] = sum;
    }
}

#define BLOCK __launch_bounds__(32 * WARPS)

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

#define PLAIN(T, NAME, C)                                                                                         \
    extern "C" __global__ void BLOCK sp_attention_forward_##NAME##_plain##C(                                      \
        const T *qkv, const float *bias, const uint32_t *starts, T *out, float *lse, int heads, int d,            \
        int tokens, float scale) {                                                                                \
        plain_forward<T, C>(qkv, bias, starts, out, lse, heads, d, tokens, scale);                                \
    }                                                                                                             \
    extern "C" __global__ void BLOCK sp_attention_backward_queries_##NAME##_plain##C(                             \
        const T *qkv, const float *bias, const uint32_t *starts, const T *dout, const float *lse,                 \
        const float *delta, T *dqkv, int heads, int d, int tokens, float scale) {                                 \
        plain_backward_queries<T, C>(qkv, bias, starts, dout, lse, delta, dqkv, heads, d, tokens, scale);         \
    }                                                                                                             \
    extern "C" __global__ void BLOCK sp_attention_backward_keys_##NAME##_plain##C(                                \
        const T *qkv, const float *bias, const uint32_t *starts, const T *dout, const float *lse,                 \
        const float *delta, T *dqkv, int heads, int d, int tokens, float scale) {                                 \
        plain_backward_keys<T, C>(qkv, bias, starts, dout, lse, delta, dqkv, heads, d, tokens, scale);            \
    }

#define DELTAS(T, NAME)                                                                                           \
    extern "C" __global__ void sp_attention_deltas_##NAME(const T *out, const T *dout, const float *bias,         \
                                                          float *delta, int heads, int d, int tokens) {           \
        deltas<T>(out, dout, bias, delta, heads, d, tokens);                                                      \
    }

TENSOR_CORES(bf16, bf16, 32)
TENSOR_CORES(bf16, bf16, 64)
TENSOR_CORES(bf16, bf16, 128)
TENSOR_CORES(f16, f16, 32)
TENSOR_CORES(f16, f16, 64)
TENSOR_CORES(f16, f16, 128)
PLAIN(float, f32, 1)
PLAIN(float, f32, 2)
PLAIN(float, f32, 4)
PLAIN(bf16, bf16, 1)
PLAIN(bf16, bf16, 2)
PLAIN(bf16, bf16, 4)
PLAIN(f16, f16, 1)
PLAIN(f16, f16, 2)
PLAIN(f16, f16, 4)
DELTAS(float, f32)
DELTAS(bf16, bf16)
DELTAS(f16, f16)
