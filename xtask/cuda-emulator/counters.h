// What the program has asked of the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>

extern "C" {

// Read by tests through `dlsym(RTLD_DEFAULT, "emu_counters")`.
struct emu_counters_t {
    std::uint64_t htod, htod_bytes;
    std::uint64_t dtoh, dtoh_bytes;
    std::uint64_t dtod, dtod_bytes;
    std::uint64_t memsets;
    std::uint64_t allocations, frees;
    // Device memory in use now, and at most so far.
    std::uint64_t bytes, peak_bytes;
    std::uint64_t launches;
    // Calls of cuBLAS, cuBLASLt and cuRAND that would launch kernels.
    std::uint64_t library_calls;
    // Waits for the device: of streams, events and contexts.
    std::uint64_t synchronizations;
};
void emu_counters(emu_counters_t *out);
// Launches of one kernel, or calls of one library function, so far.
std::uint64_t emu_count_of(const char *name);

// For the libraries beside the driver: counts one call.
void emu_count_library_call(const char *name);
}

namespace emu {

// One call of the driver at a time: the device is one machine with global state.
struct Lock {
    Lock();
    ~Lock();
    Lock(const Lock &) = delete;
};

extern emu_counters_t counters;
void count_launch(const char *name);

}  // namespace emu
