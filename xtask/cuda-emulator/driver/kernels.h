// The kernels that were compiled for the CPU.
#pragma once

#include <string>
#include <vector>

#include "../include/emulator.h"

namespace emu {

// Dynamic shared memory of a block: without asking, and after cuFuncSetAttribute, as compute capability 8.0 has it.
constexpr int SHARED_DEFAULT = 48 * 1024;
constexpr int SHARED_OPT_IN = 163 * 1024;

struct Kernel {
    const char *name;
    Thunk thunk;
    const char *file;
    // Bytes of each parameter.
    std::vector<unsigned> parameters;
};

// Loads all libraries in the folder `kernels` beside this one; each registers its kernels.
void load_kernels();
const Kernel *find_kernel(const std::string &name);

}  // namespace emu
