// Modules, functions and launches. A module is PTX text, read for what it says about its kernels; what runs is the
// kernel of the same name that was compiled for the CPU.
#include <cuda.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>

#include "../block.h"
#include "../counters.h"
#include "kernels.h"
#include "memory.h"
#include "ptx.h"

using namespace emu;

// Names of the driver's opaque types, given a body here.
struct CUfunc_st {
    const Kernel *kernel;
    Entry entry;
    CUmodule module;
    int dynamic_limit = SHARED_DEFAULT;
};
struct CUmod_st {
    Ptx ptx;
    std::map<std::string, std::unique_ptr<CUfunc_st>> functions;
};

namespace {

unsigned most_threads(CUfunction function) { return function->entry.max_threads ? function->entry.max_threads : 1024; }

int most_dynamic(CUfunction function) {
    int fixed = static_cast<int>(function->entry.shared_bytes);
    return std::min(function->dynamic_limit,
                    (function->dynamic_limit > SHARED_DEFAULT ? SHARED_OPT_IN : SHARED_DEFAULT) - fixed);
}

CUresult check(CUfunction function, dim3 grid, dim3 block, unsigned shared, void **params, void **extra) {
    unsigned long threads = static_cast<unsigned long>(block.x) * block.y * block.z;
    if (!grid.x || !grid.y || !grid.z || !threads) return CUDA_ERROR_INVALID_VALUE;
    if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) return CUDA_ERROR_INVALID_VALUE;
    if (block.x > 1024 || block.y > 1024 || block.z > 64 || threads > most_threads(function))
        return CUDA_ERROR_INVALID_VALUE;
    if (static_cast<long>(shared) > most_dynamic(function)) return CUDA_ERROR_INVALID_VALUE;
    if (extra || (!params && !function->entry.parameters.empty())) return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    Lock lock;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    auto loaded = std::make_unique<CUmod_st>();
    loaded->ptx = parse_ptx(static_cast<const char *>(image));
    if (!loaded->ptx.target) return CUDA_ERROR_INVALID_IMAGE;
    if (loaded->ptx.target > 80) return CUDA_ERROR_NO_BINARY_FOR_GPU;
    *module = loaded.release();
    return CUDA_SUCCESS;
}
CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned, CUjit_option *, void **) {
    return cuModuleLoadData(module, image);
}
CUresult cuModuleLoad(CUmodule *module, const char *path) {
    std::ifstream file(path);
    if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
    std::stringstream text;
    text << file.rdbuf();
    return cuModuleLoadData(module, text.str().c_str());
}
CUresult cuModuleUnload(CUmodule module) {
    Lock lock;
    delete module;
    return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    Lock lock;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    auto &known = module->functions[name];
    if (!known) {
        auto entry = module->ptx.entries.find(name);
        if (entry == module->ptx.entries.end()) return CUDA_ERROR_NOT_FOUND;
        const Kernel *kernel = find_kernel(name);
        if (!kernel) {
            std::fprintf(stderr, "CUDA emulator: kernel %s is in the PTX but was not compiled for the CPU\n", name);
            return CUDA_ERROR_NOT_FOUND;
        }
        if (kernel->parameters != entry->second.parameters) {
            fail("kernel %s has other parameters in the PTX than in %s: build again", name, kernel->file);
        }
        known = std::make_unique<CUfunc_st>(CUfunc_st{kernel, entry->second, module});
    }
    *function = known.get();
    return CUDA_SUCCESS;
}
CUresult cuFuncGetModule(CUmodule *module, CUfunction function) {
    *module = function->module;
    return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
    Lock lock;
    switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = static_cast<int>(most_threads(function)); break;
        case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = static_cast<int>(function->entry.shared_bytes); break;
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = function->dynamic_limit; break;
        case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = 32; break;
        case CU_FUNC_ATTRIBUTE_PTX_VERSION:
        case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *value = 80; break;
        default: *value = 0;
    }
    return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    Lock lock;
    switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
            if (value < 0 || value + static_cast<int>(function->entry.shared_bytes) > SHARED_OPT_IN)
                return CUDA_ERROR_INVALID_VALUE;
            function->dynamic_limit = value;
            return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
            return value < -1 || value > 100 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
        default: return CUDA_ERROR_INVALID_VALUE;
    }
}
CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) { return CUDA_SUCCESS; }

CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                        unsigned bz, unsigned shared, CUstream, void **params, void **extra) {
    Lock lock;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    dim3 grid(gx, gy, gz), block(bx, by, bz);
    if (CUresult error = check(function, grid, block, shared, params, extra); error != CUDA_SUCCESS) return error;
    count_launch(function->kernel->name);
    run({function->kernel->name, function->kernel->thunk, params, grid, block, shared});
    check_guards();
    return CUDA_SUCCESS;
}

// As if registers never were the limit.
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads,
                                                     std::size_t shared) {
    Lock lock;
    if (threads < 1) return CUDA_ERROR_INVALID_VALUE;
    std::size_t per_block = shared + function->entry.shared_bytes + 1024;
    *blocks = static_cast<int>(std::min({std::size_t{2048} / static_cast<std::size_t>(threads),
                                         std::size_t{SHARED_OPT_IN + 1024} / per_block, std::size_t{32}}));
    return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction function, int threads,
                                                              std::size_t shared, unsigned) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, shared);
}
CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction function, CUoccupancyB2DSize shared_of,
                                          std::size_t shared, int limit) {
    Lock lock;
    int threads = static_cast<int>(most_threads(function));
    if (limit > 0) threads = std::min(threads, limit);
    if (shared_of) shared = shared_of(threads);
    int blocks = 0;
    CUresult result = cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, threads, shared);
    *block = threads;
    *grid = blocks * 4;
    return result;
}
CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *block, CUfunction function,
                                                   CUoccupancyB2DSize shared_of, std::size_t shared, int limit,
                                                   unsigned) {
    return cuOccupancyMaxPotentialBlockSize(grid, block, function, shared_of, shared, limit);
}
CUresult cuOccupancyAvailableDynamicSMemPerBlock(std::size_t *bytes, CUfunction function, int, int) {
    *bytes = static_cast<std::size_t>(most_dynamic(function));
    return CUDA_SUCCESS;
}
}
