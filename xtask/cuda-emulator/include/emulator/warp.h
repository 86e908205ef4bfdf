// Barriers, shuffles, votes and reductions of a warp.
#pragma once

#include <cstdlib>

#include "../emulator.h"

inline void __syncthreads() { emu::barrier("__syncthreads", 0, 0, false); }
inline int __syncthreads_count(int p) {
    return static_cast<int>(emu::barrier("__syncthreads_count", 0, 0, p != 0).yes);
}
inline int __syncthreads_or(int p) { return emu::barrier("__syncthreads_or", 0, 0, p != 0).yes > 0; }
inline int __syncthreads_and(int p) {
    emu::Votes votes = emu::barrier("__syncthreads_and", 0, 0, p != 0);
    return votes.yes == votes.all;
}
inline void __syncwarp(unsigned mask = 0xffffffffu) { emu::warp_exchange<char>(0, mask, "__syncwarp"); }
[[noreturn]] inline void __trap() { emu::fail("__trap()"); }

namespace emu {

// Each lane reads the value of the lane that `source` names; out of its segment it keeps its own. Values of lanes that
// do not take part are poison, as on a GPU, where they are undefined.
template <class T>
T shuffle(const char *name, unsigned mask, T value, int width, int wanted) {
    struct In {
        T value;
        int source;
    };
    if (width < 1 || width > 32 || (width & (width - 1)))
        fail("%s: the width %d is not a power of two up to 32", name, width);
    In in{value, wanted};
    T out;
    collective(
        name, mask, &in, &out,
        [](void *, const Slot(&slots)[WARP], unsigned present) {
            for (unsigned l = 0; l < WARP; l++) {
                if (!(present >> l & 1)) continue;
                int source = static_cast<const In *>(slots[l].in)->source;
                *static_cast<T *>(slots[l].out) =
                    present >> source & 1 ? static_cast<const In *>(slots[source].in)->value : poisoned<T>();
            }
        },
        nullptr);
    return out;
}

}  // namespace emu

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    int me = static_cast<int>(emu::lane());
    return emu::shuffle("__shfl_sync", mask, value, width, (me & ~(width - 1)) + (source & (width - 1)));
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    int me = static_cast<int>(emu::lane()), source = me - static_cast<int>(delta);
    return emu::shuffle("__shfl_up_sync", mask, value, width, source < (me & ~(width - 1)) ? me : source);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    int me = static_cast<int>(emu::lane()), source = me + static_cast<int>(delta);
    return emu::shuffle("__shfl_down_sync", mask, value, width, source > (me | (width - 1)) ? me : source);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
    int me = static_cast<int>(emu::lane()), source = me ^ lanes;
    return emu::shuffle("__shfl_xor_sync", mask, value, width, source > (me | (width - 1)) ? me : source);
}

inline unsigned __ballot_sync(unsigned mask, int p) {
    auto all = emu::warp_exchange<bool>(p != 0, mask, "__ballot_sync");
    unsigned votes = 0;
    for (unsigned l = 0; l < emu::WARP; l++) votes |= (all.has(l) && all[l] ? 1u : 0u) << l;
    return votes;
}
inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, !p) == 0; }
template <class T>
inline unsigned __match_any_sync(unsigned mask, T value) {
    auto all = emu::warp_exchange<T>(value, mask, "__match_any_sync");
    unsigned same = 0;
    for (unsigned l = 0; l < emu::WARP; l++) same |= (all.has(l) && all[l] == value ? 1u : 0u) << l;
    return same;
}
// On a GPU: the lanes that happen to run together. Here only this one, which is allowed too.
inline unsigned __activemask() { return 1u << emu::lane(); }

namespace emu {

template <class T, class F>
T reduce(const char *name, unsigned mask, T value, F join) {
    auto all = warp_exchange<T>(value, mask, name);
    bool first = true;
    T result{};
    for (unsigned l = 0; l < WARP; l++) {
        if (!all.has(l)) continue;
        result = first ? all[l] : join(result, all[l]);
        first = false;
    }
    return result;
}

}  // namespace emu

#define EMU_REDUCE(NAME, T, JOIN)                                                                 \
    inline T NAME(unsigned mask, T value) {                                                       \
        return emu::reduce<T>(#NAME, mask, value, [](T a, T b) { return static_cast<T>(JOIN); }); \
    }
EMU_REDUCE(__reduce_add_sync, unsigned, a + b)
EMU_REDUCE(__reduce_add_sync, int, a + b)
EMU_REDUCE(__reduce_min_sync, unsigned, a < b ? a : b)
EMU_REDUCE(__reduce_min_sync, int, a < b ? a : b)
EMU_REDUCE(__reduce_max_sync, unsigned, a < b ? b : a)
EMU_REDUCE(__reduce_max_sync, int, a < b ? b : a)
EMU_REDUCE(__reduce_and_sync, unsigned, a &b)
EMU_REDUCE(__reduce_or_sync, unsigned, a | b)
EMU_REDUCE(__reduce_xor_sync, unsigned, a ^ b)
#undef EMU_REDUCE
