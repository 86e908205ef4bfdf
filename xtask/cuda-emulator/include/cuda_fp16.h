// Half precision for the emulator.
#pragma once

#include "cuda_runtime.h"
#include "emulator/small_float.h"

using __half = emu::Small<emu::Half>;
using half = __half;
using __half2 = emu::Pair<emu::Half>;
using half2 = __half2;
struct __half_raw {
    unsigned short x;
    operator __half() const { return __half::raw(x); }
};

inline __half __float2half(float f) { return f; }
inline __half __float2half_rn(float f) { return f; }
inline __half __double2half(double d) { return d; }
inline __half __int2half_rn(int i) { return i; }
inline __half __uint2half_rn(unsigned i) { return i; }
inline __half __ushort2half_rn(unsigned short i) { return i; }
inline float __half2float(__half h) { return h; }
inline int __half2int_rn(__half h) { return __float2int_rn(h); }
inline int __half2int_rz(__half h) { return __float2int_rz(h); }
inline unsigned short __half_as_ushort(__half h) { return h.bits; }
inline short __half_as_short(__half h) { return static_cast<short>(h.bits); }
inline __half __ushort_as_half(unsigned short bits) { return __half::raw(bits); }
inline __half __short_as_half(short bits) { return __half::raw(static_cast<unsigned short>(bits)); }

inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __half2half2(__half x) { return {x, x}; }
inline __half2 __float2half2_rn(float f) { return {f, f}; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float22half2_rn(float2 f) { return {f.x, f.y}; }
inline float2 __half22float2(__half2 h) { return {h.x, h.y}; }
inline __half __low2half(__half2 h) { return h.x; }
inline __half __high2half(__half2 h) { return h.y; }
