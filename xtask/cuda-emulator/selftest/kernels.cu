// Small kernels that use what the emulator offers, for main.cpp.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

extern "C" __global__ void block_sum(const float *x, float *sum, int n) {
    __shared__ float parts[8];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float value = i < n ? x[i] : 0.0f;
    for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffff, value, lanes);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    if (threadIdx.x == 0) {
        float total = 0.0f;
        for (int w = 0; w < blockDim.x / 32; w++) total += parts[w];
        atomicAdd(sum, total);
    }
}

// Threads leave early, whole warps too; the others meet at barriers all the same.
extern "C" __global__ void early_exits(int *met) {
    if (threadIdx.x % 3 == 0 || threadIdx.x / 32 == 1) return;
    __syncthreads();
    unsigned lanes = __ballot_sync(0xffffffff, 1);
    int all = __syncthreads_count(1);
    met[threadIdx.x] = all + 1000 * __popc(lanes);
}

extern "C" __global__ void shuffles(int *out) {
    int me = threadIdx.x;
    out[me] = __shfl_sync(0xffffffff, me, 5);
    out[32 + me] = __shfl_up_sync(0xffffffff, me, 3);
    out[64 + me] = __shfl_down_sync(0xffffffff, me, 3, 8);
    out[96 + me] = __shfl_xor_sync(0xffffffff, me, 4);
    out[128 + me] = static_cast<int>(__ballot_sync(0xffffffff, me % 2));
    out[160 + me] = __reduce_add_sync(0xffffffff, me);
    out[192 + me] = __any_sync(0xffffffff, me == 7) + 2 * __all_sync(0xffffffff, me < 32);
    // Halves of a warp on their own way.
    unsigned half = me < 16 ? 0x0000ffffu : 0xffff0000u;
    if (me < 16)
        out[224 + me] = __shfl_xor_sync(half, me, 8);
    else
        out[224 + me] = __shfl_xor_sync(half, me, 1);
    __syncwarp();
    emu::Lanes<short2> all = emu::warp_exchange(make_short2(static_cast<short>(me), static_cast<short>(2 * me)));
    out[256 + me] = all[31 - me].y;
}

extern "C" __global__ void poison(float *fixed, float *dynamic, int n) {
    __shared__ float tile[4][2], other;
    extern __shared__ __align__(16) float rows[];
    if (threadIdx.x == 0) {
        fixed[2 * blockIdx.x] = tile[3][1];
        fixed[2 * blockIdx.x + 1] = other;
        dynamic[blockIdx.x] = rows[n - 1];
        tile[3][1] = other = rows[n - 1] = 1.0f;
    }
}

extern "C" __global__ void too_much_shared(int n) {
    extern __shared__ float rows[];
    rows[n] = 0.0f;
}

template <class T>
__device__ void write_at(int n) {
    __shared__ T row[5];
    row[n] = T(1);
}
extern "C" __global__ void beyond_an_array(int n) { write_at<short>(n); }

extern "C" __global__ void out_of_bounds(float *x, int n) { x[n] = 1.0f; }

extern "C" __global__ void no_memory(float *x) { x[threadIdx.x] = 1.0f; }

extern "C" __global__ void diverged_barrier(int *x) {
    if (threadIdx.x < 8)
        x[threadIdx.x] = __shfl_xor_sync(0xffffffff, 1, 1);
    else
        __syncthreads();
}

extern "C" __global__ void own_lane_missing(int *x) { x[threadIdx.x] = __shfl_sync(0xfffffffe, 1, 2); }

extern "C" __global__ void failed_assertion() { assert(threadIdx.x < 3); }

// Without the barrier that it needs: what it gives depends on the order of the threads.
extern "C" __global__ void race(int *out) {
    __shared__ int slot[64];
    slot[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = slot[63 - threadIdx.x];
}

extern "C" __global__ void indices(unsigned *out) {
    unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] += block * 1000 + thread;
}

extern "C" __global__ void __launch_bounds__(64) bounded(double a, char b, float4 c, double *out) {
    *out = a + b + c.w;
}

// One barrier for two warps of four, another for the others.
extern "C" __global__ void named_barriers(int *out) {
    __shared__ int sums[2];
    unsigned group = threadIdx.x / 64;
    if (threadIdx.x % 64 == 0) sums[group] = 0;
    emu::barrier("bar.sync", 1 + group, 64, false);
    atomicAdd(&sums[group], static_cast<int>(group + 1));
    emu::barrier("bar.sync", 1 + group, 64, false);
    out[threadIdx.x] = sums[group];
}
