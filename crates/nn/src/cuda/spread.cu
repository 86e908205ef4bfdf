// Values of runs of equal elements.
#include "common.cuh"

// out[i] is the value of the run that i lies in; `starts`: `count` beginnings of runs.
extern "C" __global__ void sp_spread(const uint32_t *starts, const float *values, float *out, int count, long long n) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int low = 0, high = count - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (starts[middle] <= i) low = middle;
        else high = middle - 1;
    }
    out[i] = values[low];
}
