#include "poison.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "include/emulator.h"

namespace emu {
namespace {

// The driver aligns device memory so; kernels rely on it.
constexpr std::size_t ALIGNMENT = 256;
constexpr unsigned char GUARD_BYTE = 0xfd;

constexpr std::size_t round_up(std::size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

bool is_guard(const unsigned char *from, const unsigned char *to) {
    return std::all_of(from, to, [](unsigned char b) { return b == GUARD_BYTE; });
}

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t BEFORE = 0, BEHIND = 0;
#else
constexpr std::size_t BEFORE = GUARD, BEHIND = GUARD;
#endif

}  // namespace

unsigned char *guarded_new(std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
    // Not rounded up: the byte behind the last one is forbidden already.
    void *memory = nullptr;
    if (posix_memalign(&memory, ALIGNMENT, bytes)) return nullptr;
    auto *base = static_cast<unsigned char *>(memory);
#else
    auto *base = static_cast<unsigned char *>(std::aligned_alloc(ALIGNMENT, BEFORE + round_up(bytes + BEHIND)));
    if (!base) return nullptr;
    std::memset(base, GUARD_BYTE, BEFORE);
    std::memset(base + BEFORE + bytes, GUARD_BYTE, BEHIND);
#endif
    std::memset(base + BEFORE, POISON, bytes);
    return base + BEFORE;
}

void guarded_delete(unsigned char *data, std::size_t bytes) {
    std::memset(data, POISON, bytes);
    std::free(data - BEFORE);
}

bool guards_hold(const unsigned char *data, std::size_t bytes) {
    return is_guard(data - BEFORE, data) && is_guard(data + bytes, data + bytes + BEHIND);
}

void SharedMemory::prepare(std::size_t bytes) {
    if (data_ && bytes == bytes_) {
        std::memset(data_, POISON, bytes);
        return;
    }
    if (data_) guarded_delete(data_, bytes_);
    bytes_ = bytes;
    data_ = guarded_new(bytes);
    if (!data_) fail("no memory for %zu bytes of shared memory", bytes);
}

void SharedMemory::check() const {
    if (!guards_hold(data_, bytes_)) fail("a thread wrote outside of the %zu bytes of dynamic shared memory", bytes_);
}

}  // namespace emu
