// The 8-bit float E4M3 for the emulator: four bits of exponent, three of fraction, no infinity.
#pragma once

#include "cuda_bf16.h"

enum __nv_fp8_interpretation_t { __NV_E4M3, __NV_E5M2 };

namespace emu {

inline unsigned char to_e4m3(double d) {
    unsigned char sign = std::signbit(d) ? 0x80 : 0;
    if (std::isnan(d)) return 0x7f;
    double a = std::fabs(d);
    // Beyond the largest number the conversion saturates.
    if (a >= 448) return sign | 0x7e;
    int e = a < 0x1p-6 ? -6 : std::ilogb(a);
    int q = static_cast<int>(std::nearbyint(std::ldexp(a, 3 - e)));
    if (q == 16) {
        q = 8;
        e++;
    }
    return static_cast<unsigned char>(sign | (q < 8 ? q : (e + 7) << 3 | (q - 8)));
}
inline float from_e4m3(unsigned char x) {
    int e = x >> 3 & 15, f = x & 7;
    if (e == 15 && f == 7) return __builtin_nanf("");
    float a = e ? std::ldexp(static_cast<float>(8 + f), e - 10) : std::ldexp(static_cast<float>(f), -9);
    return x & 0x80 ? -a : a;
}

}  // namespace emu

struct __nv_fp8_e4m3 {
    unsigned char __x;

    __nv_fp8_e4m3() = default;
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
    explicit __nv_fp8_e4m3(T v) : __x(emu::to_e4m3(static_cast<double>(v))) {}
    explicit __nv_fp8_e4m3(__half v) : __x(emu::to_e4m3(v.value())) {}
    explicit __nv_fp8_e4m3(__nv_bfloat16 v) : __x(emu::to_e4m3(v.value())) {}
    explicit operator float() const { return emu::from_e4m3(__x); }
    explicit operator double() const { return emu::from_e4m3(__x); }
    explicit operator bool() const { return (__x & 0x7f) != 0; }
};

inline __half_raw __nv_cvt_fp8_to_halfraw(unsigned char x, __nv_fp8_interpretation_t kind) {
    if (kind != __NV_E4M3) emu::fail("E5M2 is not emulated");
    return {__half(emu::from_e4m3(x)).bits};
}
