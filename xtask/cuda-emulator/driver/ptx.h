// What the text of a PTX module says about its kernels.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace emu {

struct Entry {
    // Bytes of each parameter.
    std::vector<unsigned> parameters;
    // Most threads of a block, from __launch_bounds__; 0 if it does not say.
    unsigned max_threads = 0;
    // Bytes of the shared memory that it declares.
    unsigned shared_bytes = 0;
};

struct Ptx {
    // As in sm_80.
    unsigned target = 0;
    std::map<std::string, Entry> entries;
};

// No target if it is no PTX.
Ptx parse_ptx(const std::string &text);

}  // namespace emu
