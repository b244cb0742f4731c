// What a number is: `Vector`, W shots side by side (GCC and Clang, any CPU), or `Scalar`, one shot,
// as in a thread of a GPU.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "normals.h"

namespace jaxsde {

// Layout of a floating-point number and of the integer of its width.
template <class T>
struct Layout;

template <>
struct Layout<float> {
  using Int = int32_t;
  static constexpr int BITS = 32, MANTISSA_BITS = 23;
  static constexpr Int MANTISSA = 0x007FFFFF, HALF = 0x3F000000, HALF_EXPONENT = 126;
};

template <>
struct Layout<double> {
  using Int = int64_t;
  static constexpr int BITS = 64, MANTISSA_BITS = 52;
  static constexpr Int MANTISSA = 0x000FFFFFFFFFFFFF, HALF = 0x3FE0000000000000, HALF_EXPONENT = 1022;
};

template <class T_>
struct Scalar : Layout<T_> {
  using T = T_;
  using F = T;
  using U = uint32_t;
  using I = typename Layout<T>::Int;
  static constexpr int WIDTH = 1;

  static JAXSDE_FN F splat(T x) { return x; }
  static JAXSDE_FN U fill(uint32_t x) { return x; }
  static JAXSDE_FN U load(const uint32_t* from, int64_t) { return *from; }
  static JAXSDE_FN I widen(U x) { return static_cast<int32_t>(x); }
  static JAXSDE_FN U magnitude(U x) { return x >> 31 ? 0u - x : x; }
  static JAXSDE_FN F convert(I x) { return static_cast<F>(x); }
  static JAXSDE_FN I bits(F x) {
    I out;
    memcpy(&out, &x, sizeof out);
    return out;
  }
  static JAXSDE_FN F real(I x) {
    F out;
    memcpy(&out, &x, sizeof out);
    return out;
  }
  static JAXSDE_FN F sqrt(F x) { return ::sqrt(x); }
};

template <>
JAXSDE_FN float Scalar<float>::sqrt(float x) {
  return ::sqrtf(x);
}

#if !defined(__CUDACC__)
template <class T, int W>
struct Pack {
  typedef T type __attribute__((vector_size(sizeof(T) * W)));
};

template <class T_, int W>
struct Vector : Layout<T_> {
  using T = T_;
  using F = typename Pack<T, W>::type;
  using I = typename Pack<typename Layout<T>::Int, W>::type;
  using U = typename Pack<uint32_t, W>::type;
  using S = typename Pack<int32_t, W>::type;
  static constexpr int WIDTH = W;

  static JAXSDE_FN F splat(T x) { return F{} + x; }
  static JAXSDE_FN U fill(uint32_t x) { return U{} + x; }
  // The numbers that are there; the last one again in the surplus lanes.
  static JAXSDE_FN U load(const uint32_t* from, int64_t count) {
    U out;
    for (int i = 0; i < W; ++i) out[i] = from[i < count ? i : count - 1];
    return out;
  }
  static JAXSDE_FN I widen(U x) { return __builtin_convertvector((S)x, I); }
  // Of signed numbers; the least is its own.
  static JAXSDE_FN U magnitude(U x) { return (S)x < 0 ? 0u - x : x; }
  static JAXSDE_FN F convert(I x) { return __builtin_convertvector(x, F); }
  static JAXSDE_FN I bits(F x) { return (I)x; }
  static JAXSDE_FN F real(I x) { return (F)x; }
  static JAXSDE_FN F sqrt(F x) {
    F out;
    for (int i = 0; i < W; ++i) out[i] = std::sqrt(x[i]);
    return out;
  }
};
#endif

}  // namespace jaxsde
