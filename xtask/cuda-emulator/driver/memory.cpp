#include "memory.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "../counters.h"
#include "../include/emulator.h"
#include "../poison.h"

using namespace emu;

namespace {

// By address. Never destroyed: threads may free memory while the process ends.
std::map<CUdeviceptr, std::size_t> &allocations = *new std::map<CUdeviceptr, std::size_t>;
std::uint64_t pool_threshold;

unsigned char *host(CUdeviceptr pointer) { return reinterpret_cast<unsigned char *>(pointer); }

CUresult allocate(CUdeviceptr *out, std::size_t bytes) {
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    if (counters.bytes + bytes > total_memory()) return CUDA_ERROR_OUT_OF_MEMORY;
    unsigned char *data = guarded_new(bytes);
    if (!data) return CUDA_ERROR_OUT_OF_MEMORY;
    *out = reinterpret_cast<CUdeviceptr>(data);
    allocations[*out] = bytes;
    counters.allocations++;
    counters.bytes += bytes;
    if (counters.bytes > counters.peak_bytes) counters.peak_bytes = counters.bytes;
    return CUDA_SUCCESS;
}

void check(CUdeviceptr pointer, std::size_t bytes) {
    if (!guards_hold(host(pointer), bytes)) {
        fail("somebody wrote outside of an allocation of %zu bytes on the device", bytes);
    }
}

CUresult release(CUdeviceptr pointer) {
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!pointer) return CUDA_SUCCESS;
    auto found = allocations.find(pointer);
    if (found == allocations.end()) return CUDA_ERROR_INVALID_VALUE;
    check(pointer, found->second);
    guarded_delete(host(pointer), found->second);
    counters.frees++;
    counters.bytes -= found->second;
    allocations.erase(found);
    return CUDA_SUCCESS;
}

CUresult copy(void *to, const void *from, std::size_t bytes, std::uint64_t &count, std::uint64_t &total) {
    if (bytes) std::memmove(to, from, bytes);
    count++;
    total += bytes;
    return CUDA_SUCCESS;
}

CUresult htod(CUdeviceptr to, const void *from, std::size_t bytes) {
    Lock lock;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!is_device(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
    return copy(host(to), from, bytes, counters.htod, counters.htod_bytes);
}
CUresult dtoh(void *to, CUdeviceptr from, std::size_t bytes) {
    Lock lock;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!is_device(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
    return copy(to, host(from), bytes, counters.dtoh, counters.dtoh_bytes);
}
CUresult dtod(CUdeviceptr to, CUdeviceptr from, std::size_t bytes) {
    Lock lock;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!is_device(to, bytes) || !is_device(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
    return copy(host(to), host(from), bytes, counters.dtod, counters.dtod_bytes);
}

template <class T>
CUresult fill(CUdeviceptr to, T value, std::size_t count) {
    Lock lock;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!is_device(to, count * sizeof(T))) return CUDA_ERROR_INVALID_VALUE;
    T *data = reinterpret_cast<T *>(to);
    for (std::size_t i = 0; i < count; i++) data[i] = value;
    counters.memsets++;
    return CUDA_SUCCESS;
}

}  // namespace

namespace emu {

std::size_t total_memory() {
    static const std::size_t bytes = [] {
        const char *text = std::getenv("SELFPATCH_EMULATOR_MEMORY");
        if (!text) return std::size_t{8} << 30;
        char *end;
        unsigned long long value = std::strtoull(text, &end, 10);
        if (*end || !value) {
            std::fprintf(stderr, "SELFPATCH_EMULATOR_MEMORY is %s; it must be a number of bytes\n", text);
            std::exit(2);
        }
        return static_cast<std::size_t>(value);
    }();
    return bytes;
}

bool is_device(CUdeviceptr pointer, std::size_t bytes) {
    if (!bytes) return true;
    auto after = allocations.upper_bound(pointer);
    if (after == allocations.begin()) return false;
    auto [start, size] = *--after;
    return pointer - start <= size && bytes <= size - (pointer - start);
}

void check_guards() {
    // SELFPATCH_EMULATOR_GUARD=1: look at all of device memory after each kernel, not only when memory is freed.
    static const bool wanted = std::getenv("SELFPATCH_EMULATOR_GUARD") != nullptr;
    if (!wanted) return;
    for (auto [pointer, bytes] : allocations) check(pointer, bytes);
}

}  // namespace emu

extern "C" {

// For the libraries beside the driver.
bool emu_is_device(const void *pointer, std::size_t bytes) {
    Lock lock;
    return is_device(reinterpret_cast<CUdeviceptr>(pointer), bytes);
}

CUresult cuMemAlloc(CUdeviceptr *out, std::size_t bytes) {
    Lock lock;
    return bytes ? allocate(out, bytes) : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemAllocAsync(CUdeviceptr *out, std::size_t bytes, CUstream) {
    Lock lock;
    return allocate(out, bytes);
}
CUresult cuMemAllocFromPoolAsync(CUdeviceptr *out, std::size_t bytes, CUmemoryPool, CUstream) {
    Lock lock;
    return allocate(out, bytes);
}
CUresult cuMemFree(CUdeviceptr pointer) {
    Lock lock;
    return release(pointer);
}
CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream) {
    Lock lock;
    return release(pointer);
}
CUresult cuMemGetInfo(std::size_t *free, std::size_t *total) {
    Lock lock;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (total) *total = total_memory();
    if (free) *free = total_memory() - counters.bytes;
    return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **out, std::size_t bytes, unsigned) {
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    *out = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemFreeHost(void *pointer) {
    std::free(pointer);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, std::size_t bytes) { return htod(to, from, bytes); }
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, std::size_t bytes, CUstream) {
    return htod(to, from, bytes);
}
CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, std::size_t bytes) { return dtoh(to, from, bytes); }
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, std::size_t bytes, CUstream) { return dtoh(to, from, bytes); }
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, std::size_t bytes) { return dtod(to, from, bytes); }
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream) {
    return dtod(to, from, bytes);
}

CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, std::size_t count) { return fill(to, value, count); }
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t count, CUstream) {
    return fill(to, value, count);
}
CUresult cuMemsetD16(CUdeviceptr to, unsigned short value, std::size_t count) { return fill(to, value, count); }
CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, std::size_t count, CUstream) {
    return fill(to, value, count);
}
CUresult cuMemsetD32(CUdeviceptr to, unsigned value, std::size_t count) { return fill(to, value, count); }
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, std::size_t count, CUstream) {
    return fill(to, value, count);
}

// There is one pool, and it keeps nothing.
CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice) {
    *pool = reinterpret_cast<CUmemoryPool>(&pool_threshold);
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device) { return cuDeviceGetDefaultMemPool(pool, device); }
CUresult cuMemPoolTrimTo(CUmemoryPool, std::size_t) { return CUDA_SUCCESS; }
CUresult cuMemPoolGetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void *out) {
    Lock lock;
    auto *number = static_cast<std::uint64_t *>(out);
    switch (attribute) {
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: *number = pool_threshold; return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
        case CU_MEMPOOL_ATTR_USED_MEM_CURRENT: *number = counters.bytes; return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH: *number = counters.peak_bytes; return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES: *static_cast<int *>(out) = 1; return CUDA_SUCCESS;
        default: return CUDA_ERROR_INVALID_VALUE;
    }
}
CUresult cuMemPoolSetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void *value) {
    Lock lock;
    switch (attribute) {
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
            pool_threshold = *static_cast<std::uint64_t *>(value);
            return CUDA_SUCCESS;
        // Only zero may be written: what was the highest is forgotten.
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
            if (*static_cast<std::uint64_t *>(value)) return CUDA_ERROR_INVALID_VALUE;
            counters.peak_bytes = counters.bytes;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES: return CUDA_SUCCESS;
        default: return CUDA_ERROR_INVALID_VALUE;
    }
}
}
