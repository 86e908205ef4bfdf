// What the kernels share: number types, runs of elements, sums over a warp.
#pragma once

#include <assert.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;
typedef __half f16;

__device__ __forceinline__ float to_float(float v) { return v; }
__device__ __forceinline__ float to_float(bf16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float to_float(f16 v) { return __half2float(v); }

template <typename T> __device__ __forceinline__ T from_float(float v);
template <> __device__ __forceinline__ float from_float<float>(float v) { return v; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float v) { return __float2bfloat16(v); }
template <> __device__ __forceinline__ f16 from_float<f16>(float v) { return __float2half(v); }

// N elements that are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) Run {
    T v[N];
};

// A GPU stops at a run that does not begin at a multiple of its size; the CPU of the emulator would not.
#ifdef SELFPATCH_EMULATED
#define CHECK_RUN(address, size) assert((uintptr_t)(address) % (size) == 0)
#else
#define CHECK_RUN(address, size)
#endif

template <int N, typename T> __device__ __forceinline__ void load(const T *from, float (&to)[N]) {
    CHECK_RUN(from, sizeof(T) * N);
    const Run<T, N> run = *reinterpret_cast<const Run<T, N> *>(from);
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = to_float(run.v[i]);
}

template <int N, typename T> __device__ __forceinline__ void store(T *to, const float (&from)[N]) {
    Run<T, N> run;
#pragma unroll
    for (int i = 0; i < N; i++) run.v[i] = from_float<T>(from[i]);
    CHECK_RUN(to, sizeof(T) * N);
    *reinterpret_cast<Run<T, N> *>(to) = run;
}

// Which run of V elements a thread of a one-dimensional grid has, in rows of `dim`, a multiple of V. Divided in 32
// bits, which take a fraction of the time of 64.
template <int V> struct Place {
    long long i;
    unsigned row, column;
    __device__ __forceinline__ Place(int dim) {
        const unsigned run = blockIdx.x * blockDim.x + threadIdx.x, runs = dim / V;
        i = (long long)run * V;
        row = run / runs;
        column = (run - row * runs) * V;
    }
};

// The shared memory that a launch asks for.
__device__ __forceinline__ unsigned char *dynamic_shared() {
    extern __shared__ __align__(16) unsigned char shared_bytes[];
    return shared_bytes;
}

#define FULL_WARP 0xffffffffu

// Of all 32 lanes, in the same order on every lane.
__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(FULL_WARP, v, step);
    return v;
}

__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) v = fmaxf(v, __shfl_xor_sync(FULL_WARP, v, step));
    return v;
}

// Of all threads of a block of up to 32 whole warps; `scratch`: 32 floats of shared memory.
__device__ __forceinline__ float block_sum(float v, float *scratch) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    v = warp_sum(v);
    if (lane == 0) scratch[warp] = v;
    __syncthreads();
    v = warp_sum(lane < warps ? scratch[lane] : 0.f);
    __syncthreads();
    return v;
}

__device__ __forceinline__ float block_max(float v, float *scratch) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    v = warp_max(v);
    if (lane == 0) scratch[warp] = v;
    __syncthreads();
    v = warp_max(lane < warps ? scratch[lane] : -INFINITY);
    __syncthreads();
    return v;
}
