// What attention.cu does, without tensor cores: f32 throughout, heads of any width up to 32 C, 4 warps. A warp takes 8
// rows of the block's own tile; its lanes stand for the rows of the other tile, then for channels.
#include "sequence.cuh"

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

// out [EACH, 32 C] += weights [EACH, TILE] tile [count, d]: this warp's rows, channels on its lanes.
template <int C>
__device__ __forceinline__ void plain_accumulate(float (&out)[EACH][C], const float *weights, const float *tile,
                                                 int count, int d) {
    const int lane = threadIdx.x % 32;
    for (int j = 0; j < count; j++) {
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int column = lane + 32 * c;
            const float v = column < d ? tile[j * (d + 1) + column] : 0.f;
#pragma unroll
            for (int r = 0; r < EACH; r++) out[r][c] += weights[r * TILE + j] * v;
        }
    }
}

// `factor` times this warp's rows to rows of `stride` elements, those below `count`.
template <typename T, int C>
__device__ __forceinline__ void plain_write(T *to, long long stride, const float (&rows)[EACH][C], float factor,
                                            int count, int d) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int r = 0; r < EACH; r++) {
        const int row = warp * EACH + r;
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int column = lane + 32 * c;
            if (row < count && column < d) to[row * stride + column] = from_float<T>(rows[r][c] * factor);
        }
    }
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
        plain_accumulate<C>(o, probabilities, values, left_over, d);
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
        plain_accumulate<C>(dq, gradients, keys, left_over, d);
        __syncwarp();
    }
    plain_write<T, C>(dqkv + (s.first + first) * 3 * width + h * d, 3 * width, dq, scale, count, d);
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
        plain_accumulate<C>(dk, gradients, queries, left_over, d);
        plain_accumulate<C>(dv, probabilities, douts, left_over, d);
        __syncwarp();
    }
    T *to = dqkv + (s.first + first) * 3 * width + h * d;
    plain_write<T, C>(to + width, 3 * width, dk, scale, count, d);
    plain_write<T, C>(to + 2 * width, 3 * width, dv, 1.f, count, d);
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

PLAIN(float, f32, 1)
PLAIN(float, f32, 2)
PLAIN(float, f32, 4)
PLAIN(bf16, bf16, 1)
PLAIN(bf16, bf16, 2)
PLAIN(bf16, bf16, 4)
PLAIN(f16, f16, 1)
PLAIN(f16, f16, 2)
PLAIN(f16, f16, 4)
