// Memory that shows when it is used wrongly: filled with bytes that are NaN in every float format, with a zone behind
// it that nobody may write.
#pragma once

#include <cstddef>
#include <vector>

namespace emu {

// Bytes for device memory. Under the address sanitizer its own zones take the place of ours.
unsigned char *guarded_new(std::size_t bytes);
void guarded_delete(unsigned char *data, std::size_t bytes);
// Whether nobody has written before or behind it.
bool guards_hold(const unsigned char *data, std::size_t bytes);

// The shared memory of a block.
class SharedMemory {
public:
    // Dynamic shared memory of this size, all poison. What was watched is forgotten.
    void prepare(std::size_t bytes);
    // Makes zones around a variable that nobody may write.
    void watch(const char *name, unsigned char *before, unsigned char *behind, std::size_t zone);
    // Ends the process if a block wrote outside of its dynamic shared memory, or in a zone.
    void check() const;
    void *data() const { return data_; }

private:
    struct Zones {
        const char *name;
        unsigned char *before, *behind;
        std::size_t zone;
    };
    unsigned char *data_ = nullptr;
    std::size_t bytes_ = 0;
    std::vector<Zones> watched_;
};

}  // namespace emu
