// The 16-bit floats, rounded as the hardware rounds: to nearest, ties to even, NaN becomes 0x7fff.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "bits.h"

namespace emu {

struct Half {
    static std::uint16_t from(float f) {
        std::uint32_t x = emu_bits<std::uint32_t>(f), sign = x >> 16 & 0x8000, a = x & 0x7fffffff;
        if (a > 0x7f800000) return 0x7fff;
        if (a >= 0x477ff000) return static_cast<std::uint16_t>(sign | 0x7c00);
        // Below the smallest normal number: a multiple of 2^-24.
        if (a < 0x38800000)
            return static_cast<std::uint16_t>(sign |
                                              static_cast<std::uint32_t>(std::nearbyint(std::fabs(f) * 0x1p24f)));
        return static_cast<std::uint16_t>(sign | (((a + 0xfff + (a >> 13 & 1)) >> 13) - (112 << 10)));
    }
    static float to(std::uint16_t h) {
        std::uint32_t sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
        if (exponent == 31) return emu_bits<float>(sign | 0x7f800000 | fraction << 13);
        if (exponent == 0) return (sign ? -0x1p-24f : 0x1p-24f) * static_cast<float>(fraction);
        return emu_bits<float>(sign | (exponent + 112) << 23 | fraction << 13);
    }
};

struct Bfloat16 {
    static std::uint16_t from(float f) {
        std::uint32_t x = emu_bits<std::uint32_t>(f);
        if ((x & 0x7fffffff) > 0x7f800000) return 0x7fff;
        return static_cast<std::uint16_t>((x + 0x7fff + (x >> 16 & 1)) >> 16);
    }
    static float to(std::uint16_t b) { return emu_bits<float>(static_cast<std::uint32_t>(b) << 16); }
};

// Rounded to odd: rounding the result once more to fewer bits gives what rounding `d` at once gives.
inline float odd(double d) {
    float f = static_cast<float>(d);
    if (static_cast<double>(f) == d || d != d) return f;
    std::uint32_t bits = emu_bits<std::uint32_t>(f);
    if (std::fabs(static_cast<double>(f)) > std::fabs(d)) bits--;
    return emu_bits<float>(bits | 1);
}
// a * b + c, rounded to odd; the product of two 16-bit floats is exact in double.
inline double odd_fma(double a, double b, double c) {
    double p = a * b, s = p + c, t = s - p, error = (p - (s - t)) + (c - t);
    if (!(error != 0) || !std::isfinite(s)) return s;
    std::uint64_t bits = emu_bits<std::uint64_t>(s);
    if (bits & 1) return s;
    return emu_bits<double>((error > 0) == (s > 0) ? bits + 1 : bits - 1);
}
template <class I>
double odd(I i) {
    static_assert(std::is_integral_v<I>);
    if (sizeof(I) < 8 || (i < (I{1} << 52) && i > -(I{1} << 52))) return static_cast<double>(i);
    return static_cast<double>(static_cast<I>((i & ~I{0xfff}) | ((i & 0xfff) != 0) << 12));
}

template <class F>
struct Pair;

// Two floats of 32 bits hold sums, products, quotients and roots of 16-bit floats well enough that rounding twice
// changes nothing.
template <class F>
struct Small {
    std::uint16_t bits;

    Small() = default;
    Small(float f) : bits(F::from(f)) {}
    Small(double d) : bits(F::from(odd(d))) {}
    template <class I, class = std::enable_if_t<std::is_integral_v<I>>>
    Small(I i) : bits(F::from(odd(odd<I>(i)))) {}
    template <class G, class = std::enable_if_t<!std::is_same_v<F, G>>>
    explicit Small(Small<G> other) : Small(static_cast<float>(other)) {}
    static Small raw(std::uint16_t bits) {
        Small s;
        s.bits = bits;
        return s;
    }

    operator float() const { return F::to(bits); }
    explicit operator bool() const { return F::to(bits) != 0; }
#define EMU_TO(I) \
    operator I() const { return static_cast<I>(F::to(bits)); }
    EMU_TO(signed char)
    EMU_TO(unsigned char)
    EMU_TO(short)
    EMU_TO(unsigned short)
    EMU_TO(int)
    EMU_TO(unsigned)
    EMU_TO(long)
    EMU_TO(unsigned long)
    EMU_TO(long long)
    EMU_TO(unsigned long long)
#undef EMU_TO

    float value() const { return F::to(bits); }

#define EMU_BINARY(OP, NAME)                                                             \
    friend Small operator OP(Small a, Small b) { return Small(a.value() OP b.value()); } \
    friend Small NAME(Small a, Small b) { return a OP b; }                               \
    friend Small NAME##_rn(Small a, Small b) { return a OP b; }                          \
    friend Small &operator OP## = (Small & a, Small b) { return a = a OP b; }
    EMU_BINARY(+, __hadd)
    EMU_BINARY(-, __hsub)
    EMU_BINARY(*, __hmul)
    EMU_BINARY(/, __hdiv)
#undef EMU_BINARY
    friend Small operator-(Small a) { return raw(static_cast<std::uint16_t>(a.bits ^ 0x8000)); }
    friend Small operator+(Small a) { return a; }
    friend Small &operator++(Small &a) { return a = a + Small(1.0f); }
    friend Small &operator--(Small &a) { return a = a - Small(1.0f); }
    friend Small __hneg(Small a) { return -a; }
    friend Small __habs(Small a) { return raw(a.bits & 0x7fff); }
    friend Small __hfma(Small a, Small b, Small c) { return Small(odd_fma(a.value(), b.value(), c.value())); }

#define EMU_COMPARE(OP, NAME)                                                    \
    friend bool operator OP(Small a, Small b) { return a.value() OP b.value(); } \
    friend bool NAME(Small a, Small b) { return a.value() OP b.value(); }
    EMU_COMPARE(==, __heq)
    EMU_COMPARE(!=, __hne)
    EMU_COMPARE(<, __hlt)
    EMU_COMPARE(<=, __hle)
    EMU_COMPARE(>, __hgt)
    EMU_COMPARE(>=, __hge)
#undef EMU_COMPARE
    friend bool __hisnan(Small a) { return std::isnan(a.value()); }
    friend int __hisinf(Small a) { return std::isinf(a.value()) ? (a.value() > 0 ? 1 : -1) : 0; }
    friend Small __hmax(Small a, Small b) { return Small(std::fmax(a.value(), b.value())); }
    friend Small __hmin(Small a, Small b) { return Small(std::fmin(a.value(), b.value())); }
    friend Small __hmax_nan(Small a, Small b) { return __hisnan(a) || __hisnan(b) ? raw(0x7fff) : __hmax(a, b); }
    friend Small __hmin_nan(Small a, Small b) { return __hisnan(a) || __hisnan(b) ? raw(0x7fff) : __hmin(a, b); }

#define EMU_FUNCTION(NAME, EXPRESSION) \
    friend Small NAME(Small a) {       \
        float x = a.value();           \
        return Small(EXPRESSION);      \
    }
    EMU_FUNCTION(hsqrt, std::sqrt(x))
    EMU_FUNCTION(hrsqrt, 1.0f / std::sqrt(x))
    EMU_FUNCTION(hrcp, 1.0f / x)
    EMU_FUNCTION(hexp, std::exp(x))
    EMU_FUNCTION(hexp2, std::exp2(x))
    EMU_FUNCTION(hlog, std::log(x))
    EMU_FUNCTION(hlog2, std::log2(x))
    EMU_FUNCTION(hsin, std::sin(x))
    EMU_FUNCTION(hcos, std::cos(x))
    EMU_FUNCTION(htanh, std::tanh(x))
    EMU_FUNCTION(hceil, std::ceil(x))
    EMU_FUNCTION(hfloor, std::floor(x))
    EMU_FUNCTION(htrunc, std::trunc(x))
    EMU_FUNCTION(hrint, std::nearbyint(x))
#undef EMU_FUNCTION
};

// Two 16-bit floats in one register.
template <class F>
struct alignas(4) Pair {
    using S = Small<F>;
    S x, y;

    Pair() = default;
    Pair(S x, S y) : x(x), y(y) {}

#define EMU_BINARY(OP, NAME)                                                     \
    friend Pair operator OP(Pair a, Pair b) { return {a.x OP b.x, a.y OP b.y}; } \
    friend Pair NAME(Pair a, Pair b) { return a OP b; }                          \
    friend Pair &operator OP## = (Pair & a, Pair b) { return a = a OP b; }
    EMU_BINARY(+, __hadd2)
    EMU_BINARY(-, __hsub2)
    EMU_BINARY(*, __hmul2)
    EMU_BINARY(/, __h2div)
#undef EMU_BINARY
    friend Pair operator-(Pair a) { return {-a.x, -a.y}; }
    friend Pair __hneg2(Pair a) { return -a; }
    friend Pair __habs2(Pair a) { return {__habs(a.x), __habs(a.y)}; }
    friend Pair __hfma2(Pair a, Pair b, Pair c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }
    friend Pair __hmax2(Pair a, Pair b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }
    friend Pair __hmin2(Pair a, Pair b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }
    friend Pair h2exp(Pair a) { return {hexp(a.x), hexp(a.y)}; }
    friend Pair h2exp2(Pair a) { return {hexp2(a.x), hexp2(a.y)}; }
    friend Pair h2log(Pair a) { return {hlog(a.x), hlog(a.y)}; }
    friend Pair h2sqrt(Pair a) { return {hsqrt(a.x), hsqrt(a.y)}; }
    friend Pair h2rsqrt(Pair a) { return {hrsqrt(a.x), hrsqrt(a.y)}; }
    friend Pair h2rcp(Pair a) { return {hrcp(a.x), hrcp(a.y)}; }
    friend Pair h2tanh(Pair a) { return {htanh(a.x), htanh(a.y)}; }
    friend bool operator==(Pair a, Pair b) { return a.x == b.x && a.y == b.y; }
    friend bool operator!=(Pair a, Pair b) { return a.x != b.x && a.y != b.y; }
    friend float __low2float(Pair a) { return a.x; }
    friend float __high2float(Pair a) { return a.y; }
    friend Pair __lowhigh2highlow(Pair a) { return {a.y, a.x}; }
    friend Pair __low2half2(Pair a) { return {a.x, a.x}; }
    friend Pair __high2half2(Pair a) { return {a.y, a.y}; }
};

}  // namespace emu
