// D = alpha * A * B + beta * C for matrices of any type and layout.
#pragma once

#include <library_types.h>

#include <cstdint>
#include <functional>

namespace emu {

// Element (i, j) stands at i * row + j * column.
struct Matrix {
    const void *data;
    cudaDataType type;
    std::int64_t row, column;

    // Column by column, `leading` apart, as cuBLAS has them; transposed if asked for.
    static Matrix columns(const void *data, cudaDataType type, std::int64_t leading, bool transposed) {
        return transposed ? Matrix{data, type, leading, 1} : Matrix{data, type, 1, leading};
    }
    double get(std::int64_t i, std::int64_t j) const;
    // Rounds to the type, once.
    void set(std::int64_t i, std::int64_t j, double value) const;
    Matrix offset(std::int64_t elements) const;
};

// 0 if the emulator does not know the type.
std::size_t bytes_of(cudaDataType type);
// One number of a type, such as alpha.
double number(const void *data, cudaDataType type);

// What becomes of an element before it is rounded.
using Epilogue = std::function<double(std::int64_t i, std::int64_t j, double value)>;

struct Product {
    const char *name;
    std::int64_t m, n, k;
    double alpha, beta;
    Matrix a, b, c, d;
    Epilogue epilogue = nullptr;
};
// Sums in float, in double if a matrix holds doubles. C is not read if beta is 0. Ends the process if a matrix reaches
// out of device memory.
void multiply(const Product &product);

}  // namespace emu
