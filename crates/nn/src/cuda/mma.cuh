// Products of small tiles on the tensor cores: what one warp does at once.
//
// Fragments, with g = lane / 4 and t = lane % 4:
//   A [16, 16]  a[0] = (g, 2t..), a[1] = (g + 8, 2t..), a[2] = (g, 2t + 8..), a[3] = (g + 8, 2t + 8..)
//   B [16, 8]   b[0] = (2t.., g), b[1] = (2t + 8.., g)
//   C [16, 8]   c[0..1] = (g, 2t..), c[2..3] = (g + 8, 2t..)
// where "x.." is two neighbouring numbers in one register. (PTX ISA, mma.m16n8k16.)
#pragma once

#include "common.cuh"

template <typename T> __device__ __forceinline__ uint32_t pack(float low, float high) {
    const Run<T, 2> pair = {from_float<T>(low), from_float<T>(high)};
    return *reinterpret_cast<const uint32_t *>(&pair);
}

#ifdef SELFPATCH_EMULATED

// On the CPU, for tests: each lane sees the registers of the others.
template <typename T> __device__ inline float half_of(uint32_t pair, int which) {
    return to_float(reinterpret_cast<const T *>(&pair)[which]);
}

template <typename T> __device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    struct Registers {
        uint32_t a[4], b[2];
    };
    const auto all = emu::warp_exchange(Registers{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) {
        const int row = g + 8 * (i / 2), column = 2 * t + i % 2;
        float sum = 0.f;
        for (int k = 0; k < 16; k++) {
            const Registers &left = all[row % 8 * 4 + k % 8 / 2], &right = all[column * 4 + k % 8 / 2];
            sum += half_of<T>(left.a[row / 8 + k / 8 * 2], k % 2) * half_of<T>(right.b[k / 8], k % 2);
        }
        c[i] += sum;
    }
}

// Four 8 x 8 tiles of 16-bit numbers, transposed: lane 8 m + r gives where row r of tile m begins; a lane
// gets rows 2t and 2t + 1 of column g of each.
__device__ inline void load_transposed(uint32_t (&to)[4], const void *row) {
    const auto rows = emu::warp_exchange(row);
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    for (int m = 0; m < 4; m++) {
        const uint16_t low = static_cast<const uint16_t *>(rows[8 * m + 2 * t])[g];
        const uint16_t high = static_cast<const uint16_t *>(rows[8 * m + 2 * t + 1])[g];
        to[m] = low | (uint32_t)high << 16;
    }
}

#else

template <typename T>
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

template <>
__device__ __forceinline__ void mma<bf16>(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
__device__ __forceinline__ void mma<f16>(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 tiles of 16-bit numbers in shared memory, transposed: lane 8 m + r gives where row r of tile m
// begins; a lane gets rows 2t and 2t + 1 of column g of each.
__device__ __forceinline__ void load_transposed(uint32_t (&to)[4], const void *row) {
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

#endif
