// Positive matching: cosine similarities of each patch with its neighbours, and the best of them.
#include <math.h>
#include <stdint.h>

namespace {

const uint32_t NONE = 0xffffffffu; // a missing neighbour
const int AT_ONCE = 4;             // neighbours that one warp reads together

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}

// N elements that are read at once.
template <int N> struct alignas(4 * N) Run {
    float v[N];
};

template <int N> __device__ __forceinline__ Run<N> at(const float *p, int i) {
#ifdef SELFPATCH_EMULATED // a GPU stops here by itself
    assert((uintptr_t)(p + i) % sizeof(Run<N>) == 0);
#endif
    return *reinterpret_cast<const Run<N> *>(p + i);
}

// One warp per token: 1 / its length.
template <int N> __device__ void lengths(const float *tokens, float *inverse, int64_t count, int dim) {
    const int64_t row = int64_t(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= count) return;
    const float *x = tokens + row * dim;
    float sum = 0.f;
    for (int i = threadIdx.x % 32 * N; i < dim; i += 32 * N) {
        const Run<N> run = at<N>(x, i);
#pragma unroll
        for (int j = 0; j < N; j++) sum += run.v[j] * run.v[j];
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) inverse[row] = 1.f / fmaxf(sqrtf(sum), 1e-12f);
}

// A similarity that is not a number ranks last.
__device__ __forceinline__ float rank_of(float cosine) { return isnan(cosine) ? -INFINITY : cosine; }

// Whether the neighbour at place i goes before the one at place j.
__device__ __forceinline__ bool before(float rank_i, int i, float rank_j, int j) {
    return rank_i > rank_j || (rank_i == rank_j && i < j);
}

// One warp per patch. Shared memory of each warp: its token at length 1, and the similarities.
template <int N>
__device__ void choose(const float *tokens, const float *inverse, const uint32_t *table, uint32_t *ids, float *best,
                       int64_t count, int patches, int dim, int width, int k) {
    extern __shared__ __align__(16) float shared[];
    const int lane = threadIdx.x % 32;
    const int64_t row = int64_t(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= count) return;
    const int stride = (dim + width + 3) / 4 * 4;
    float *own = shared + threadIdx.x / 32 * stride, *cosines = own + dim;
    const int64_t first = row / patches * patches; // row of the image's first patch
    const uint32_t *near = table + row % patches * width;

    for (int i = lane; i < dim; i += 32) own[i] = tokens[row * dim + i] * inverse[row];
    __syncwarp();
    int present = 0;
    for (int place = 0; place < width; place += AT_ONCE) {
        const float *x[AT_ONCE];
        float scale[AT_ONCE], sum[AT_ONCE];
        int here = 0;
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            const uint32_t id = place + j < width ? near[place + j] : NONE;
            here += id != NONE; // missing ones stand at the end
            const int64_t other = id != NONE ? first + id : row;
            x[j] = tokens + other * dim;
            scale[j] = inverse[other];
            sum[j] = 0.f;
        }
        for (int i = lane * N; i < dim; i += 32 * N) {
            const Run<N> a = at<N>(own, i);
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++) {
                const Run<N> b = at<N>(x[j], i);
#pragma unroll
                for (int l = 0; l < N; l++) sum[j] += a.v[l] * (b.v[l] * scale[j]);
            }
        }
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            const float cosine = warp_sum(sum[j]);
            if (lane == 0 && j < here) cosines[place + j] = cosine;
        }
        present += here;
        if (here < AT_ONCE) break;
    }
    __syncwarp();

    // Each round takes the first place after the one before.
    float last = INFINITY;
    int last_place = -1, top_place = 0;
    for (int round = 0; round < k; round++) {
        float found = -INFINITY;
        int place = width;
        for (int i = lane; i < present; i += 32) {
            const float rank = rank_of(cosines[i]);
            if (before(last, last_place, rank, i) && before(rank, i, found, place)) found = rank, place = i;
        }
#pragma unroll
        for (int step = 16; step > 0; step /= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, found, step);
            const int other_place = __shfl_xor_sync(0xffffffffu, place, step);
            if (before(other, other_place, found, place)) found = other, place = other_place;
        }
        if (round == 0) top_place = place;
        if (lane == 0) {
            const int taken = round < present ? place : top_place; // the best stands for missing ones
            ids[row * k + round] = near[taken];
            best[row * k + round] = cosines[taken];
        }
        last = found, last_place = place;
    }
}

} // namespace

#define KERNELS(N)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(128)                                                                  \
        sp_token_lengths_##N(const float *tokens, float *inverse, long long count, int dim) {                          \
        lengths<N>(tokens, inverse, count, dim);                                                                       \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(128)                                                                  \
        sp_choose_positives_##N(const float *tokens, const float *inverse, const uint32_t *table, uint32_t *ids,       \
                                float *best, long long count, int patches, int dim, int width, int k) {               \
        choose<N>(tokens, inverse, table, ids, best, count, patches, dim, width, k);                                   \
    }

KERNELS(4)
KERNELS(1)
