// The packed batch that the attention kernels work on.
#pragma once

#include "common.cuh"

#define WARPS 4 // of every block
#define BLOCK __launch_bounds__(32 * WARPS)

// Which rows of the batch belong to a block's sequence.
struct Sequence {
    long long first;
    int length;
};

__device__ __forceinline__ Sequence sequence(const uint32_t *starts) {
    const uint32_t begin = starts[blockIdx.x], end = starts[blockIdx.x + 1];
    return {(long long)begin, (int)(end - begin)};
}
