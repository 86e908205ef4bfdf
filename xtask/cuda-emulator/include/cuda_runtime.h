// CUDA C++ for the CPU: comes before the toolkit's headers when kernels are compiled for the emulator, and is included
// before the first line of every source, as nvcc does.
#pragma once

#include "emulator.h"

#define SELFPATCH_EMULATED 1
#define __CUDACC__ 1
#define __CUDA_ARCH__ 800
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0

#define __device__
#define __host__
#ifndef __global__
#define __global__ __attribute__((visibility("hidden")))
#endif
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __maxnreg__(n)
#define __restrict__ __restrict
#define __align__(n) alignas(n)
#define __constant__ static
// What is left after the builder has rewritten shared memory (xtask/src/cuda_emulator/rewrite.rs).
#define __shared__ error_shared_memory_in_a_form_that_the_emulator_does_not_know

#include "emulator/bits.h"
#include "emulator/math.h"
#include "emulator/memory.h"
#include "emulator/vectors.h"
#include "emulator/warp.h"
