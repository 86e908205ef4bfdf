// Clipping, AdamW and the teacher's average for all parameters in one pass, as if they lay in one buffer.
// The device decides whether the step is done: only if every norm is finite.
#include <stdint.h>

namespace {

const int CHUNK = 8192; // elements of one block
const int THREADS = 256;
const double BETA1 = 0.9, BETA2 = 0.999;

// A parameter and what belongs to it. Those that have a gradient come first.
struct Entry {
    float *param;
    float *teacher;        // null: nobody follows
    const float *gradient; // null: none, as are moments and steps
    float *moments;        // n first ones, then n second ones
    uint32_t *steps;
    int64_t size;
    int64_t chunk;   // number of its first chunk
    int64_t decayed; // 1 or 0
};

// What AdamW does with one parameter in this step.
struct alignas(16) Coefficients {
    float factor;  // of the gradient: clipping and 1 / scale of the loss
    float step;    // lr / (1 - BETA1^t)
    float inverse; // 1 / (1 - BETA2^t)
    float keep;    // 1 - lr decay
};

template <int N> struct alignas(4 * N) Run {
    float v[N];
};

template <int N> __device__ __forceinline__ Run<N> &at(float *p, int64_t i) { return *reinterpret_cast<Run<N> *>(p + i); }

template <int N> __device__ __forceinline__ Run<N> at(const float *p, int64_t i) {
    return *reinterpret_cast<const Run<N> *>(p + i);
}

// The entry that a chunk belongs to: the last one that begins at it or before it.
__device__ __forceinline__ int entry_of(const Entry *table, int count, int64_t chunk) {
    int low = 0, high = count - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (table[middle].chunk <= chunk) low = middle;
        else high = middle - 1;
    }
    return low;
}

// Whether all arrays of an entry can be read 16 bytes at a time.
__device__ __forceinline__ bool aligned(const Entry &e) {
    const uintptr_t all = (uintptr_t)e.param | (uintptr_t)e.teacher | (uintptr_t)e.gradient | (uintptr_t)e.moments;
    return all % 16 == 0 && e.size % 4 == 0;
}

template <int N> __device__ float squares(const float *gradient, float unscale, int64_t begin, int64_t end) {
    float sum = 0.f;
    for (int64_t i = begin + threadIdx.x * N; i < end; i += THREADS * N) {
        const Run<N> g = at<N>(gradient, i);
#pragma unroll
        for (int j = 0; j < N; j++) {
            const float value = g.v[j] * unscale;
            sum += value * value;
        }
    }
    return sum;
}

template <int N>
__device__ void update(const Entry &e, Coefficients c, float stay, float take, int64_t begin, int64_t end) {
    for (int64_t i = begin + threadIdx.x * N; i < end; i += THREADS * N) {
        Run<N> p = at<N>(e.param, i);
        if (e.gradient) {
            const Run<N> g = at<N>(e.gradient, i);
            Run<N> m = at<N>(e.moments, i), v = at<N>(e.moments + e.size, i);
#pragma unroll
            for (int j = 0; j < N; j++) {
                const float slope = g.v[j] * c.factor;
                m.v[j] = float(BETA1) * m.v[j] + float(1. - BETA1) * slope;
                v.v[j] = float(BETA2) * v.v[j] + float(1. - BETA2) * slope * slope;
                p.v[j] = p.v[j] * c.keep - c.step * (m.v[j] / (sqrtf(v.v[j] * c.inverse) + 1e-8f));
            }
            at<N>(e.param, i) = p;
            at<N>(e.moments, i) = m;
            at<N>(e.moments + e.size, i) = v;
        }
        if (e.teacher) {
            Run<N> t = at<N>(e.teacher, i);
#pragma unroll
            for (int j = 0; j < N; j++) t.v[j] = stay * t.v[j] + take * p.v[j];
            at<N>(e.teacher, i) = t;
        }
    }
}

} // namespace

// Sum of the squares of each chunk of the gradients of `count` entries.
extern "C" __global__ void __launch_bounds__(THREADS)
    sp_gradient_squares(const Entry *table, int count, float unscale, float *sums) {
    const Entry e = table[entry_of(table, count, blockIdx.x)];
    const int64_t begin = (blockIdx.x - e.chunk) * CHUNK, end = min(begin + CHUNK, e.size);
    float sum = aligned(e) ? squares<4>(e.gradient, unscale, begin, end) : squares<1>(e.gradient, unscale, begin, end);
    __shared__ float lanes[THREADS];
    lanes[threadIdx.x] = sum;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) lanes[threadIdx.x] += lanes[threadIdx.x + half];
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = lanes[0];
}

// One block: norms of the gradients from the sums of their chunks, whether the step is done, and if so the
// counts and coefficients of all entries that have a gradient.
extern "C" __global__ void __launch_bounds__(1024)
    sp_adamw_coefficients(const Entry *table, int count, const float *sums, float clip, float unscale, float lr,
                          float decay, Coefficients *coefficients, float *norms, uint32_t *applied) {
    bool finite = true;
    for (int i = threadIdx.x / 32; i < count; i += blockDim.x / 32) {
        const Entry e = table[i];
        const int64_t chunks = (e.size + CHUNK - 1) / CHUNK;
        double sum = 0.;
        for (int64_t j = threadIdx.x % 32; j < chunks; j += 32) sum += sums[e.chunk + j];
        for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
        const float norm = sqrt(sum);
        finite = finite && isfinite(norm);
        if (threadIdx.x % 32 == 0) norms[i] = norm;
    }
    const bool all = __syncthreads_and(finite);
    if (threadIdx.x == 0) *applied = all;
    if (!all) return;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const Entry e = table[i];
        const uint32_t t = *e.steps + 1;
        *e.steps = t;
        const float factor = clip / (norms[i] + 1e-6f);
        coefficients[i] = {
            (clip > 0.f && factor < 1.f ? factor : 1.f) * unscale,
            float(lr / (1. - pow(BETA1, double(t)))),
            float(1. / (1. - pow(BETA2, double(t)))),
            e.decayed ? float(1. - double(lr) * decay) : 1.f,
        };
    }
}

// The step of all entries, of which the first `trained` have a gradient; every follower then moves to
// `stay` of itself and `take` of its parameter.
extern "C" __global__ void __launch_bounds__(THREADS)
    sp_adamw(const Entry *table, int count, int trained, const Coefficients *coefficients, const uint32_t *applied,
             float stay, float take) {
    if (!*applied) return;
    const int which = entry_of(table, count, blockIdx.x);
    const Entry e = table[which];
    const Coefficients c = which < trained ? coefficients[which] : Coefficients{};
    const int64_t begin = (blockIdx.x - e.chunk) * CHUNK, end = min(begin + CHUNK, e.size);
    if (aligned(e)) update<4>(e, c, stay, take, begin, end);
    else update<1>(e, c, stay, take, begin, end);
}
