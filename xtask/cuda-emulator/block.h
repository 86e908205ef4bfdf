// Runs the blocks of a launch, one after the other.
#pragma once

#include <cstddef>

#include "include/emulator.h"

namespace emu {

struct Launch {
    const char *name;
    Thunk thunk;
    void **params;
    dim3 grid, block;
    std::size_t shared_bytes;
};

// Not reentrant: the driver's lock must be held.
void run(const Launch &launch);

// The launch that runs and the thread of it, as text for messages; empty between launches.
const char *whereabouts();

}  // namespace emu
