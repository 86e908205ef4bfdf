// What the backward pass of attention compares the gradients of probabilities with.
#include "common.cuh"

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

#define DELTAS(T, NAME)                                                                                           \
    extern "C" __global__ void sp_attention_deltas_##NAME(const T *out, const T *dout, const float *bias,         \
                                                          float *delta, int heads, int d, int tokens) {           \
        deltas<T>(out, dout, bias, delta, heads, d, tokens);                                                      \
    }

DELTAS(float, f32)
DELTAS(bf16, bf16)
DELTAS(f16, f16)
