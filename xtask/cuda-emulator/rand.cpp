// libcurand: numbers from a Mersenne twister, not those of a GPU.
#include <curand.h>

#include <random>

#include "counters.h"

using namespace emu;

struct curandGenerator_st {
    std::mt19937_64 bits;
    unsigned long long seed = 0;

    void restart(unsigned long long offset) {
        bits.seed(seed);
        bits.discard(offset);
    }
};

namespace {

template <class T, class Distribution>
curandStatus_t fill(const char *name, curandGenerator_t generator, T *out, std::size_t count,
                    Distribution distribution) {
    emu_count_library_call(name);
    Lock lock;
    for (std::size_t i = 0; i < count; i++) out[i] = static_cast<T>(distribution(generator->bits));
    return CURAND_STATUS_SUCCESS;
}
// cuRAND's uniform numbers leave out 0 and include 1.
template <class T>
auto uniform() {
    return [d = std::uniform_real_distribution<T>()](auto &bits) mutable { return 1 - d(bits); };
}
// cuRAND makes normal numbers in pairs.
template <class T>
curandStatus_t normal(const char *name, curandGenerator_t generator, T *out, std::size_t count, T mean, T deviation) {
    if (count % 2) return CURAND_STATUS_LENGTH_NOT_MULTIPLE;
    return fill(name, generator, out, count, std::normal_distribution<T>(mean, deviation));
}

}  // namespace

extern "C" {

curandStatus_t curandCreateGenerator(curandGenerator_t *generator, curandRngType_t) {
    *generator = new curandGenerator_st;
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandDestroyGenerator(curandGenerator_t generator) {
    delete generator;
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetStream(curandGenerator_t, cudaStream_t) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t generator, unsigned long long seed) {
    generator->seed = seed;
    generator->restart(0);
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetGeneratorOffset(curandGenerator_t generator, unsigned long long offset) {
    generator->restart(offset);
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandGenerate(curandGenerator_t generator, unsigned *out, size_t count) {
    return fill("curandGenerate", generator, out, count, std::uniform_int_distribution<unsigned>());
}
curandStatus_t curandGenerateUniform(curandGenerator_t generator, float *out, size_t count) {
    return fill("curandGenerateUniform", generator, out, count, uniform<float>());
}
curandStatus_t curandGenerateUniformDouble(curandGenerator_t generator, double *out, size_t count) {
    return fill("curandGenerateUniformDouble", generator, out, count, uniform<double>());
}
curandStatus_t curandGenerateNormal(curandGenerator_t generator, float *out, size_t count, float mean,
                                    float deviation) {
    return normal("curandGenerateNormal", generator, out, count, mean, deviation);
}
curandStatus_t curandGenerateNormalDouble(curandGenerator_t generator, double *out, size_t count, double mean,
                                          double deviation) {
    return normal("curandGenerateNormalDouble", generator, out, count, mean, deviation);
}
}
