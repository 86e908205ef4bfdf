#include "gemm.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../counters.h"
#include "../include/emulator/small_float.h"

// Of the driver: whether these bytes lie in one allocation.
extern "C" bool emu_is_device(const void *pointer, std::size_t bytes);

namespace emu {
namespace {

template <class T>
T read(const void *data, std::int64_t index) {
    T value;
    std::memcpy(&value, static_cast<const char *>(data) + index * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
    return value;
}
template <class T>
void write(const void *data, std::int64_t index, T value) {
    std::memcpy(static_cast<char *>(const_cast<void *>(data)) + index * static_cast<std::int64_t>(sizeof(T)), &value,
                sizeof(T));
}

void check(const char *name, const char *which, const Matrix &matrix, std::int64_t rows, std::int64_t columns) {
    if (!rows || !columns) return;
    std::size_t elements = static_cast<std::size_t>((rows - 1) * matrix.row + (columns - 1) * matrix.column + 1);
    if (emu_is_device(matrix.data, elements * bytes_of(matrix.type))) return;
    std::fprintf(stderr, "\nCUDA emulator: %s: matrix %s of %ld x %ld reaches out of its memory on the device\n", name,
                 which, rows, columns);
    std::abort();
}

template <class T>
std::vector<T> pack(const Matrix &matrix, std::int64_t rows, std::int64_t columns) {
    std::vector<T> packed(static_cast<std::size_t>(rows * columns));
    for (std::int64_t j = 0, at = 0; j < columns; j++) {
        for (std::int64_t i = 0; i < rows; i++)
            packed[static_cast<std::size_t>(at++)] = static_cast<T>(matrix.get(i, j));
    }
    return packed;
}

template <class T>
void multiply_in(const Product &p) {
    std::size_t m = static_cast<std::size_t>(p.m), k = static_cast<std::size_t>(p.k);
    std::vector<T> a, b, sums(m);
    if (p.alpha != 0) {
        a = pack<T>(p.a, p.m, p.k);
        b = pack<T>(p.b, p.k, p.n);
    }
    for (std::int64_t j = 0; j < p.n; j++) {
        std::fill(sums.begin(), sums.end(), T{0});
        for (std::size_t q = 0; p.alpha != 0 && q < k; q++) {
            T factor = b[static_cast<std::size_t>(j) * k + q];
            const T *column = a.data() + q * m;
            for (std::size_t i = 0; i < m; i++) sums[i] += column[i] * factor;
        }
        for (std::int64_t i = 0; i < p.m; i++) {
            T value = static_cast<T>(p.alpha) * sums[static_cast<std::size_t>(i)];
            if (p.beta != 0) value += static_cast<T>(p.beta) * static_cast<T>(p.c.get(i, j));
            p.d.set(i, j, p.epilogue ? p.epilogue(i, j, value) : value);
        }
    }
}

}  // namespace

std::size_t bytes_of(cudaDataType type) {
    switch (type) {
        case CUDA_R_16F:
        case CUDA_R_16BF: return 2;
        case CUDA_R_32F: return 4;
        case CUDA_R_64F: return 8;
        default: return 0;
    }
}

double Matrix::get(std::int64_t i, std::int64_t j) const {
    std::int64_t at = i * row + j * column;
    switch (type) {
        case CUDA_R_16F: return Half::to(read<std::uint16_t>(data, at));
        case CUDA_R_16BF: return Bfloat16::to(read<std::uint16_t>(data, at));
        case CUDA_R_32F: return read<float>(data, at);
        default: return read<double>(data, at);
    }
}

void Matrix::set(std::int64_t i, std::int64_t j, double value) const {
    std::int64_t at = i * row + j * column;
    switch (type) {
        case CUDA_R_16F: return write(data, at, Half::from(odd(value)));
        case CUDA_R_16BF: return write(data, at, Bfloat16::from(odd(value)));
        case CUDA_R_32F: return write(data, at, static_cast<float>(value));
        default: return write(data, at, value);
    }
}

Matrix Matrix::offset(std::int64_t elements) const {
    Matrix moved = *this;
    moved.data = static_cast<const char *>(data) + elements * static_cast<std::int64_t>(bytes_of(type));
    return moved;
}

double number(const void *data, cudaDataType type) { return Matrix{data, type, 0, 0}.get(0, 0); }

void multiply(const Product &p) {
    Lock lock;
    if (p.alpha != 0) {
        check(p.name, "A", p.a, p.m, p.k);
        check(p.name, "B", p.b, p.k, p.n);
    }
    if (p.beta != 0) check(p.name, "C", p.c, p.m, p.n);
    check(p.name, "D", p.d, p.m, p.n);
    bool exact = p.a.type == CUDA_R_64F || p.d.type == CUDA_R_64F;
    if (exact)
        multiply_in<double>(p);
    else
        multiply_in<float>(p);
}

}  // namespace emu
