// Loads, stores and atomics. Blocks run one at a time and fibers give way only at barriers, so plain operations are
// atomic.
#pragma once

#include <cstdint>

template <class T>
inline T __ldg(const T *p) {
    return *p;
}
template <class T>
inline T __ldcg(const T *p) {
    return *p;
}
template <class T>
inline T __ldca(const T *p) {
    return *p;
}
template <class T>
inline T __ldcs(const T *p) {
    return *p;
}
template <class T>
inline void __stcg(T *p, T value) {
    *p = value;
}
template <class T>
inline void __stcs(T *p, T value) {
    *p = value;
}
template <class T>
inline void __stwt(T *p, T value) {
    *p = value;
}

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

// An address is the same in every window here. It does not fit the 32 bits that inline assembly takes: give the
// pointer itself to what stands for the instruction.
inline std::size_t __cvta_generic_to_shared(const void *p) { return reinterpret_cast<std::size_t>(p); }
inline std::size_t __cvta_generic_to_global(const void *p) { return reinterpret_cast<std::size_t>(p); }

template <class T, class F>
inline T emu_atomic(T *p, F change) {
    T old = *p;
    *p = change(old);
    return old;
}
// As for the toolkit's overloads the second argument converts to the type of the first.
template <class T>
using emu_same = typename std::enable_if<true, T>::type;
template <class T>
inline T atomicAdd(T *p, emu_same<T> v) {
    return emu_atomic(p, [&](T old) { return static_cast<T>(old + v); });
}
template <class T>
inline T atomicSub(T *p, emu_same<T> v) {
    return emu_atomic(p, [&](T old) { return static_cast<T>(old - v); });
}
template <class T>
inline T atomicMax(T *p, emu_same<T> v) {
    return emu_atomic(p, [&](T old) { return old < v ? v : old; });
}
template <class T>
inline T atomicMin(T *p, emu_same<T> v) {
    return emu_atomic(p, [&](T old) { return v < old ? v : old; });
}
template <class T>
inline T atomicExch(T *p, emu_same<T> v) {
    return emu_atomic(p, [&](T) { return v; });
}
template <class T>
inline T atomicAnd(T *p, emu_same<T> v) {
    return emu_atomic(p, [&](T old) { return static_cast<T>(old & v); });
}
template <class T>
inline T atomicOr(T *p, emu_same<T> v) {
    return emu_atomic(p, [&](T old) { return static_cast<T>(old | v); });
}
template <class T>
inline T atomicXor(T *p, emu_same<T> v) {
    return emu_atomic(p, [&](T old) { return static_cast<T>(old ^ v); });
}
template <class T>
inline T atomicCAS(T *p, emu_same<T> compare, emu_same<T> v) {
    return emu_atomic(p, [&](T old) { return old == compare ? v : old; });
}
inline unsigned atomicInc(unsigned *p, unsigned limit) {
    return emu_atomic(p, [&](unsigned old) { return old >= limit ? 0 : old + 1; });
}
inline unsigned atomicDec(unsigned *p, unsigned limit) {
    return emu_atomic(p, [&](unsigned old) { return old == 0 || old > limit ? limit : old - 1; });
}
