// What kernels compiled for the CPU see of the emulator: their indices, barriers, warp collectives, shared memory,
// and the registry that the driver finds them in. One thread of a block is one fiber; fibers take turns and give way
// only inside the functions declared here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return {x, y, z}; }
};

// The values of the fiber that runs; the scheduler sets them at each switch.
extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
constexpr int warpSize = 32;

namespace emu {

constexpr unsigned WARP = 32;
constexpr unsigned char POISON = 0xff;

// ---- barriers ----

// Waits for `count` threads of the block (a multiple of 32), or for all that have not left the kernel if it is 0.
// The results are of the last barrier that this thread has passed.
struct Votes {
    unsigned yes, all;
};
Votes barrier(const char *name, unsigned id, unsigned count, bool vote);

// ---- warp collectives ----

// What a lane brought to a collective and where it waits for its result.
struct Slot {
    const void *in;
    void *out;
};
// Runs once per collective, when every lane of the mask that has not left the kernel has arrived: it reads what all
// lanes brought and writes all results. Bits of `present` tell who has arrived.
using Combine = void (*)(void *context, const Slot (&slots)[WARP], unsigned present);
void collective(const char *name, unsigned mask, const void *in, void *out, Combine combine, void *context);

// Lane within its warp.
unsigned lane();
// Number of the thread in its block.
unsigned rank();

template <class T>
T poisoned() {
    T value;
    std::memset(static_cast<void *>(&value), POISON, sizeof value);
    return value;
}

// All lanes named in `mask` deposit a value and every one gets the values of all: `result[lane]`. Lanes that did not
// take part are poisoned. This is the hook for instructions that a warp executes together (`mma.sync`, `ldmatrix`).
template <class T>
struct Lanes {
    T values[WARP];
    unsigned present;
    const T &operator[](unsigned lane) const { return values[lane]; }
    bool has(unsigned lane) const { return present >> lane & 1; }
};
template <class T>
Lanes<T> warp_exchange(const T &value, unsigned mask = 0xffffffffu, const char *name = "emu::warp_exchange") {
    static_assert(std::is_trivially_copyable_v<T>, "lanes exchange plain bytes");
    Lanes<T> result;
    collective(
        name, mask, &value, &result,
        [](void *, const Slot(&slots)[WARP], unsigned present) {
            Lanes<T> all;
            all.present = present;
            for (unsigned l = 0; l < WARP; l++) {
                all.values[l] = present >> l & 1 ? *static_cast<const T *>(slots[l].in) : poisoned<T>();
            }
            for (unsigned l = 0; l < WARP; l++) {
                if (present >> l & 1) *static_cast<Lanes<T> *>(slots[l].out) = all;
            }
        },
        nullptr);
    return result;
}

// ---- shared memory ----

// Start of the block's dynamic shared memory.
void *dynamic_shared();
// Number of the block that runs, counted over all launches: static shared memory is poisoned when it changes.
extern unsigned long block_serial;

template <class T>
inline void enter_shared(T &variable, unsigned long &seen) {
    if (seen == block_serial) return;
    seen = block_serial;
    std::memset(static_cast<void *>(&variable), POISON, sizeof variable);
}

// ---- the end ----

// Reports what went wrong in a kernel, and where, and ends the process.
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- registry ----

using Thunk = void (*)(void **params);
// With the bytes of each parameter, which must be those of the PTX.
void register_kernel(const char *name, Thunk thunk, const char *file, const unsigned *sizes, std::size_t count);

template <auto kernel>
struct Register;
template <class... Args, void (*kernel)(Args...)>
struct Register<kernel> {
    Register(const char *name, const char *file) {
        const unsigned sizes[] = {sizeof(Args)..., 0};
        register_kernel(name, thunk, file, sizes, sizeof...(Args));
    }
    static void thunk(void **params) { call(params, std::index_sequence_for<Args...>{}); }
    template <std::size_t... I>
    static void call([[maybe_unused]] void **params, std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_cv_t<Args> *>(params[I])...);
    }
};

}  // namespace emu
