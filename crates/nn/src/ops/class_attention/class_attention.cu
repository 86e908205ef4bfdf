// Class attention: the query of each sequence reads itself and the tokens of its sequence, or those that a list
// of rows names. One warp per query and head; each lane holds V channels of the head. A key's bias moves all
// scores of a query alike, which the softmax does not see: it is left out.
#include "common.cuh"

#define AT_ONCE 4 // tokens whose rows are fetched together

// Lane's channels of one row; zeros beyond the head.
template <typename T, int V> __device__ __forceinline__ void channels(const T *row, bool inside, float (&to)[V]) {
    if (inside) {
        load<V>(row, to);
        return;
    }
#pragma unroll
    for (int i = 0; i < V; i++) to[i] = 0.f;
}

template <int V> __device__ __forceinline__ float dot(const float (&a)[V], const float (&b)[V]) {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < V; i++) sum += a[i] * b[i];
    return warp_sum(sum);
}

// Query of a warp's head with its bias.
template <typename T, int V>
__device__ __forceinline__ void query(const T *row, const float *bias, int at, bool inside, float (&q)[V]) {
    channels<T, V>(row + at, inside, q);
#pragma unroll
    for (int i = 0; i < V; i++) q[i] += bias && inside ? bias[at + i] : 0.f;
}

// `own`: query, key and value of each query's own row, `[count, 3 D]`, or of one row that all share. `kv`: keys
// and values of all tokens, `[tokens, 2 D]`. The tokens of query i are starts[i]..starts[i + 1], or those of
// rows[i k..(i + 1) k] whose `valid` is not 0 (null: all). `out [count, D]`. For the backward pass, or null:
// `mean [count, D]`, the same before it is rounded and without the values' bias, and `lse [count, heads]`, the
// logarithms of the sums of exponentials.
template <typename T, int V>
__device__ __forceinline__ void forward(const T *own, const T *kv, const float *q_bias, const float *v_bias,
                                        const uint32_t *starts, const uint32_t *rows, const float *valid, T *out,
                                        float *mean, float *lse, int count, int shared, int tokens, int k, int heads, int d,
                                        float scale) {
    const int lane = threadIdx.x % 32;
    const long long task = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (task >= (long long)count * heads) return;
    const long long i = task / heads;
    const int dim = heads * d, at = (int)(task % heads) * d + lane * V;
    const bool inside = lane * V < d;
    own += shared ? 0 : i * 3 * dim;
    const long long first = rows ? i * k : starts[i];
    const int length = rows ? k : (int)(starts[i + 1] - starts[i]);

    float q[V], key[V], sum = 1.f, acc[V];
    query<T, V>(own, q_bias, at, inside, q);
    channels<T, V>(own + dim + at, inside, key);
    channels<T, V>(own + 2 * dim + at, inside, acc);
    float top = dot<V>(q, key) * scale;
    for (int j = 0; j < length; j += AT_ONCE) {
        float keys[AT_ONCE][V], values[AT_ONCE][V], score[AT_ONCE];
#pragma unroll
        for (int b = 0; b < AT_ONCE; b++) {
            const bool present = j + b < length && (!valid || valid[first + j + b] != 0.f);
            const long long row = !present ? 0 : rows ? (long long)rows[first + j + b] : first + j + b;
            // No weight for a missing token; a row that does not exist makes the result no number.
            score[b] = !present ? -INFINITY : row < tokens ? 0.f : NAN;
            const T *from = kv + row * 2 * dim + at;
            channels<T, V>(from, inside && score[b] == 0.f, keys[b]);
            channels<T, V>(from + dim, inside && score[b] == 0.f, values[b]);
        }
        float next = top;
#pragma unroll
        for (int b = 0; b < AT_ONCE; b++) {
            score[b] += dot<V>(q, keys[b]) * scale;
            next = fmaxf(next, score[b]);
        }
        const float shrink = expf(top - next);
        top = next;
        sum *= shrink;
#pragma unroll
        for (int c = 0; c < V; c++) acc[c] *= shrink;
#pragma unroll
        for (int b = 0; b < AT_ONCE; b++) {
            const float p = expf(score[b] - top);
            sum += p;
#pragma unroll
            for (int c = 0; c < V; c++) acc[c] += p * values[b][c];
        }
    }
    const float inverse = 1.f / sum;
#pragma unroll
    for (int c = 0; c < V; c++) acc[c] *= inverse;
    if (inside && mean) store<V>(mean + i * dim + at, acc);
#pragma unroll
    for (int c = 0; c < V; c++) acc[c] += v_bias && inside ? v_bias[at + c] : 0.f;
    if (inside) store<V>(out + i * dim + at, acc);
    if (lse && lane == 0) lse[task] = top + logf(sum);
}

// Gradients of `own` and `kv`, given that of `out`.
template <typename T, int V>
__device__ __forceinline__ void backward(const T *own, const T *kv, const float *q_bias, const uint32_t *starts,
                                         const float *mean, const float *lse, const T *dout, T *down, T *dkv, int count, int heads, int d, float scale) {
    const int lane = threadIdx.x % 32;
    const long long task = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (task >= (long long)count * heads) return;
    const long long i = task / heads;
    const int dim = heads * d, at = (int)(task % heads) * d + lane * V;
    const bool inside = lane * V < d;
    const long long first = starts[i];
    const int length = (int)(starts[i + 1] - starts[i]);

    float q[V], dq[V], go[V], o[V];
    query<T, V>(own + i * 3 * dim, q_bias, at, inside, q);
    channels<T, V>(dout + i * dim + at, inside, go);
    channels<float, V>(mean + i * dim + at, inside, o);
#pragma unroll
    for (int c = 0; c < V; c++) dq[c] = 0.f;
    // ds_j = p_j (dout v_j - middle), middle = sum_j p_j (dout v_j)
    const float middle = dot<V>(go, o), total = lse[task];
    const auto turn = [&](float (&key)[V], float (&value)[V], T *to) {
        const float p = expf(dot<V>(q, key) * scale - total);
        const float ds = p * (dot<V>(go, value) - middle) * scale;
#pragma unroll
        for (int c = 0; c < V; c++) {
            dq[c] += ds * key[c];
            key[c] = ds * q[c];
            value[c] = p * go[c];
        }
        if (inside) {
            store<V>(to, key);
            store<V>(to + dim, value);
        }
    };
    const long long mine = i * 3 * dim + dim + at;
    float key[V], value[V];
    channels<T, V>(own + mine, inside, key);
    channels<T, V>(own + mine + dim, inside, value);
    turn(key, value, down + mine);
    for (int j = 0; j < length; j += AT_ONCE) {
        float keys[AT_ONCE][V], values[AT_ONCE][V];
#pragma unroll
        for (int b = 0; b < AT_ONCE; b++) {
            const T *from = kv + (first + j + b) * 2 * dim + at;
            channels<T, V>(from, inside && j + b < length, keys[b]);
            channels<T, V>(from + dim, inside && j + b < length, values[b]);
        }
#pragma unroll
        for (int b = 0; b < AT_ONCE; b++) {
            if (j + b < length) turn(keys[b], values[b], dkv + (first + j + b) * 2 * dim + at);
        }
    }
    if (inside) store<V>(down + i * 3 * dim + at, dq);
}

#define KERNELS(T, NAME, V)                                                                                           \
    extern "C" __global__ void __launch_bounds__(128) sp_class_attention_forward_##NAME##_##V(                        \
        const T *own, const T *kv, const float *q_bias, const float *v_bias, const uint32_t *starts,                  \
        const uint32_t *rows, const float *valid, T *out, float *mean, float *lse, int count, int shared,             \
        int tokens, int k, int heads, int d, float scale) {                                                           \
        forward<T, V>(own, kv, q_bias, v_bias, starts, rows, valid, out, mean, lse, count, shared, tokens, k, heads,  \
                      d, scale);                                                                                      \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(128) sp_class_attention_backward_##NAME##_##V(                       \
        const T *own, const T *kv, const float *q_bias, const uint32_t *starts, const float *mean, const float *lse,  \
        const T *dout, T *down, T *dkv, int count, int heads, int d, float scale) {                                   \
        backward<T, V>(own, kv, q_bias, starts, mean, lse, dout, down, dkv, count, heads, d, scale);                  \
    }

#define WIDTHS(T, NAME)                                                                                               \
    KERNELS(T, NAME, 1)                                                                                               \
    KERNELS(T, NAME, 2)                                                                                               \
    KERNELS(T, NAME, 4)                                                                                               \
    KERNELS(T, NAME, 8)

WIDTHS(float, f32)
WIDTHS(bf16, bf16)
WIDTHS(f16, f16)
