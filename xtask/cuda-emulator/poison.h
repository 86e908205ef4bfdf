// Memory that shows when it is used wrongly: filled with bytes that are NaN in every float format, with a zone behind
// it that nobody may write.
#pragma once

#include <cstddef>

namespace emu {

constexpr std::size_t GUARD = 256;

// Bytes for device memory. Under the address sanitizer its own zones take the place of ours.
unsigned char *guarded_new(std::size_t bytes);
void guarded_delete(unsigned char *data, std::size_t bytes);
// Whether nobody has written before or behind it.
bool guards_hold(const unsigned char *data, std::size_t bytes);

// The dynamic shared memory of a block.
class SharedMemory {
public:
    // Memory of this size, all poison.
    void prepare(std::size_t bytes);
    // Ends the process if a block wrote behind its shared memory.
    void check() const;
    void *data() const { return data_; }

private:
    unsigned char *data_ = nullptr;
    std::size_t bytes_ = 0;
};

}  // namespace emu
