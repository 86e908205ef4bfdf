// bfloat16 for the emulator.
#pragma once

#include "cuda_fp16.h"

using __nv_bfloat16 = emu::Small<emu::Bfloat16>;
using nv_bfloat16 = __nv_bfloat16;
using __nv_bfloat162 = emu::Pair<emu::Bfloat16>;
using nv_bfloat162 = __nv_bfloat162;
struct __nv_bfloat16_raw {
    unsigned short x;
    operator __nv_bfloat16() const { return __nv_bfloat16::raw(x); }
};

inline __nv_bfloat16 __float2bfloat16(float f) { return f; }
inline __nv_bfloat16 __float2bfloat16_rn(float f) { return f; }
inline __nv_bfloat16 __double2bfloat16(double d) { return d; }
inline __nv_bfloat16 __int2bfloat16_rn(int i) { return i; }
inline __nv_bfloat16 __uint2bfloat16_rn(unsigned i) { return i; }
inline float __bfloat162float(__nv_bfloat16 b) { return b; }
inline int __bfloat162int_rn(__nv_bfloat16 b) { return __float2int_rn(b); }
inline int __bfloat162int_rz(__nv_bfloat16 b) { return __float2int_rz(b); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 b) { return b.bits; }
inline short __bfloat16_as_short(__nv_bfloat16 b) { return static_cast<short>(b.bits); }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return __nv_bfloat16::raw(bits); }
inline __nv_bfloat16 __short_as_bfloat16(short bits) { return __nv_bfloat16::raw(static_cast<unsigned short>(bits)); }

inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }
inline __nv_bfloat162 __float2bfloat162_rn(float f) { return {f, f}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 f) { return {f.x, f.y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 b) { return {b.x, b.y}; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 b) { return b.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 b) { return b.y; }
