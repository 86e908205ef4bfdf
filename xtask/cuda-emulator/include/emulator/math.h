// The functions of CUDA's maths library that C does not have. Fast variants are as exact as the others here.
#pragma once

// These also put the names of C into the global namespace, where CUDA has them.
#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <limits>
#include <type_traits>

#include "../emulator.h"

#undef assert
#define assert(truth) ((truth) ? (void)0 : emu::fail("assertion failed: %s (%s:%d)", #truth, __FILE__, __LINE__))

template <class A, class B, class = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
constexpr auto max(A a, B b) -> std::common_type_t<A, B> {
    using C = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<C>)
        return std::fmax(static_cast<C>(a), static_cast<C>(b));
    else
        return static_cast<C>(a) < static_cast<C>(b) ? static_cast<C>(b) : static_cast<C>(a);
}
template <class A, class B, class = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
constexpr auto min(A a, B b) -> std::common_type_t<A, B> {
    using C = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<C>)
        return std::fmin(static_cast<C>(a), static_cast<C>(b));
    else
        return static_cast<C>(b) < static_cast<C>(a) ? static_cast<C>(b) : static_cast<C>(a);
}

// C libraries have or will get functions of these names with a linkage of their own; macros step around them.
inline float emu_rsqrtf(float x) { return 1.0f / std::sqrt(x); }
#define rsqrtf emu_rsqrtf
inline double emu_rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float emu_rsqrt(float x) { return emu_rsqrtf(x); }
#define rsqrt emu_rsqrt
inline float emu_sinpif(float x) { return static_cast<float>(std::sin(M_PI * x)); }
#define sinpif emu_sinpif
inline float emu_cospif(float x) { return static_cast<float>(std::cos(M_PI * x)); }
#define cospif emu_cospif
#define __expf expf
#define __exp10f(x) powf(10.0f, x)
#define __logf logf
#define __log2f log2f
#define __log10f log10f
#define __powf powf
#define __sinf sinf
#define __cosf cosf
#define __tanf tanf
#define __tanhf tanhf

inline float normcdff(float x) { return static_cast<float>(0.5 * std::erfc(-static_cast<double>(x) * M_SQRT1_2)); }
inline double normcdf(double x) { return 0.5 * std::erfc(-x * M_SQRT1_2); }
inline float fdividef(float x, float y) { return x / y; }
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frsqrt_rn(float x) { return emu_rsqrtf(x); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __fma_rn(double x, double y, double z) { return std::fma(x, y, z); }

// Conversions to integers saturate and turn NaN into 0, as the hardware's do.
template <class I, class F>
inline I emu_to_integer(F x) {
    if (std::isnan(x)) return 0;
    constexpr F high = static_cast<F>(std::numeric_limits<I>::max());
    constexpr F low = static_cast<F>(std::numeric_limits<I>::min());
    if (x >= high) return std::numeric_limits<I>::max();
    if (x <= low) return std::numeric_limits<I>::min();
    return static_cast<I>(x);
}
inline int __float2int_rn(float x) { return emu_to_integer<int>(std::nearbyint(x)); }
inline int __float2int_rz(float x) { return emu_to_integer<int>(std::trunc(x)); }
inline int __float2int_rd(float x) { return emu_to_integer<int>(std::floor(x)); }
inline int __float2int_ru(float x) { return emu_to_integer<int>(std::ceil(x)); }
inline unsigned __float2uint_rn(float x) { return emu_to_integer<unsigned>(std::nearbyint(x)); }
inline unsigned __float2uint_rz(float x) { return emu_to_integer<unsigned>(std::trunc(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

#define CUDART_INF_F __builtin_inff()
#define CUDART_NAN_F __builtin_nanf("")
#define CUDART_INF __builtin_inf()
#define CUDART_PI_F 3.141592654f
