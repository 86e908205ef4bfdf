// Device memory: blocks of host memory that know their size.
#pragma once

#include <cuda.h>

#include <cstddef>

namespace emu {

// Bytes of memory that the device claims to have (SELFPATCH_EMULATOR_MEMORY).
std::size_t total_memory();

// Whether all these bytes lie in one allocation.
bool is_device(CUdeviceptr pointer, std::size_t bytes);

// Ends the process if somebody wrote outside of an allocation; for use after each kernel.
void check_guards();

// Whether the calling thread has a context, as most functions of the driver demand.
bool has_context();

}  // namespace emu
