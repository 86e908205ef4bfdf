// The device, its context, streams and events. There is one of each that matters, and all work is done when the call
// that asks for it returns.
#include <cuda.h>

#include <chrono>
#include <cstring>
#include <map>
#include <set>

#include "../counters.h"
#include "errors.h"
#include "kernels.h"
#include "memory.h"

using namespace emu;

namespace {

constexpr int MAJOR = 8, MINOR = 0;
constexpr char NAME[] = "SelfPatch CUDA emulator";

bool initialized;
int primary_references;
std::map<CUlimit, std::size_t> &limits = *new std::map<CUlimit, std::size_t>;
std::set<CUstream> &streams = *new std::set<CUstream>;
thread_local CUcontext current;

// The address of a context, which nobody looks into.
int primary_place;
const CUcontext primary = reinterpret_cast<CUcontext>(&primary_place);

using Clock = std::chrono::steady_clock;
struct Event {
    bool timed, recorded = false;
    Clock::time_point time;
};
std::map<CUevent, Event> &events = *new std::map<CUevent, Event>;

bool is_stream(CUstream stream) {
    // Null, the legacy stream and the stream of a thread are always there.
    return !stream || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD || streams.count(stream);
}

CUresult wait() {
    counters.synchronizations++;
    return has_context() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

}  // namespace

bool emu::has_context() { return current && primary_references > 0; }

extern "C" {

CUresult cuInit(unsigned flags) {
    Lock lock;
    if (flags) return CUDA_ERROR_INVALID_VALUE;
    if (!initialized) load_kernels();
    initialized = true;
    return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int *version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
    if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
    *count = 1;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
    if (ordinal != 0) return CUDA_ERROR_INVALID_DEVICE;
    *device = 0;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int length, CUdevice) {
    std::strncpy(name, NAME, static_cast<std::size_t>(length));
    if (length > 0) name[length - 1] = 0;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice) {
    std::memcpy(uuid->bytes, NAME, sizeof uuid->bytes);
    return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(std::size_t *bytes, CUdevice) {
    *bytes = total_memory();
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice) {
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = MAJOR; break;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = MINOR; break;
        case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: *value = 1024; break;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: *value = 64; break;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: *value = 0x7fffffff; break;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: *value = 65535; break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *value = SHARED_DEFAULT; break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = SHARED_OPT_IN; break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: *value = SHARED_OPT_IN + 1024; break;
        case CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK: *value = 1024; break;
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: *value = 2048; break;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR: *value = 32; break;
        case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
        case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: *value = 65536; break;
        case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY: *value = 65536; break;
        // Few, so that what divides work between multiprocessors does so with small inputs too.
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 4; break;
        case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
        case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: *value = 1000000; break;
        case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: *value = 64; break;
        case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: *value = 1 << 20; break;
        case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: *value = 1; break;
        default: *value = 0;
    }
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
    Lock lock;
    if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
    primary_references++;
    *context = primary;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) {
    Lock lock;
    if (!primary_references) return CUDA_ERROR_INVALID_CONTEXT;
    primary_references--;
    return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
    if (context && context != primary) return CUDA_ERROR_INVALID_CONTEXT;
    current = context;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = current;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice *device) {
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    *device = 0;
    return CUDA_SUCCESS;
}
CUresult cuCtxSynchronize() {
    Lock lock;
    return wait();
}
CUresult cuCtxSetFlags(unsigned) { return CUDA_SUCCESS; }
CUresult cuCtxGetLimit(std::size_t *value, CUlimit limit) {
    Lock lock;
    *value = limits[limit];
    return CUDA_SUCCESS;
}
CUresult cuCtxSetLimit(CUlimit limit, std::size_t value) {
    Lock lock;
    limits[limit] = value;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCacheConfig(CUfunc_cache *config) {
    *config = CU_FUNC_CACHE_PREFER_NONE;
    return CUDA_SUCCESS;
}
CUresult cuCtxSetCacheConfig(CUfunc_cache) { return CUDA_SUCCESS; }
CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    *least = *greatest = 0;
    return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned) {
    Lock lock;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    *stream = reinterpret_cast<CUstream>(new char);
    streams.insert(*stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }
CUresult cuStreamDestroy(CUstream stream) {
    Lock lock;
    if (!streams.erase(stream)) return CUDA_ERROR_INVALID_HANDLE;
    delete reinterpret_cast<char *>(stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream stream) {
    Lock lock;
    return is_stream(stream) ? wait() : CUDA_ERROR_INVALID_HANDLE;
}
CUresult cuStreamQuery(CUstream stream) {
    Lock lock;
    return is_stream(stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
    Lock lock;
    return is_stream(stream) && events.count(event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
CUresult cuStreamIsCapturing(CUstream, CUstreamCaptureStatus *status) {
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}
CUresult cuLaunchHostFunc(CUstream, CUhostFn function, void *data) {
    function(data);
    return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *event, unsigned flags) {
    Lock lock;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    *event = reinterpret_cast<CUevent>(new char);
    events[*event] = {!(flags & CU_EVENT_DISABLE_TIMING), false, {}};
    return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) {
    Lock lock;
    if (!events.erase(event)) return CUDA_ERROR_INVALID_HANDLE;
    delete reinterpret_cast<char *>(event);
    return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
    Lock lock;
    auto found = events.find(event);
    if (found == events.end() || !is_stream(stream)) return CUDA_ERROR_INVALID_HANDLE;
    found->second.recorded = true;
    found->second.time = Clock::now();
    return CUDA_SUCCESS;
}
CUresult cuEventQuery(CUevent event) {
    Lock lock;
    return events.count(event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
CUresult cuEventSynchronize(CUevent event) {
    Lock lock;
    return events.count(event) ? wait() : CUDA_ERROR_INVALID_HANDLE;
}
CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) {
    Lock lock;
    auto a = events.find(from), b = events.find(to);
    if (a == events.end() || b == events.end()) return CUDA_ERROR_INVALID_HANDLE;
    if (!a->second.timed || !b->second.timed || !a->second.recorded || !b->second.recorded)
        return CUDA_ERROR_INVALID_HANDLE;
    *milliseconds = std::chrono::duration<float, std::milli>(b->second.time - a->second.time).count();
    return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char **name) {
    *name = error_name(error);
    return *name ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuGetErrorString(CUresult error, const char **text) {
    *text = error_text(error);
    return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
}
