// The vector types of CUDA with their alignments, and how they are made.
#pragma once

#define EMU_VECTORS(T, NAME, A2, A4)                                   \
    struct NAME##1 { T x; };                                           \
    struct alignas(A2) NAME##2 { T x, y; };                            \
    EMU_THREE(T, NAME)                                                 \
    struct alignas(A4) NAME##4 { T x, y, z, w; };                      \
    inline NAME##1 make_##NAME##1(T x) { return {x}; }                 \
    inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }         \
    inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; } \
    inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }

#define EMU_THREE(T, NAME) \
    struct NAME##3 { T x, y, z; };
EMU_VECTORS(signed char, char, 2, 4)
EMU_VECTORS(unsigned char, uchar, 2, 4)
EMU_VECTORS(short, short, 4, 8)
EMU_VECTORS(unsigned short, ushort, 4, 8)
EMU_VECTORS(int, int, 8, 16)
EMU_VECTORS(long, long, 16, 16)
EMU_VECTORS(unsigned long, ulong, 16, 16)
EMU_VECTORS(long long, longlong, 16, 16)
EMU_VECTORS(unsigned long long, ulonglong, 16, 16)
EMU_VECTORS(float, float, 8, 16)
EMU_VECTORS(double, double, 16, 16)
// uint3 is the type of threadIdx and stands in emulator.h.
#undef EMU_THREE
#define EMU_THREE(T, NAME)
EMU_VECTORS(unsigned, uint, 8, 16)
#undef EMU_THREE
#undef EMU_VECTORS
