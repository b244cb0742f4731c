// Counter-based normals: the same words and the same series as jaxsde/engine/noise.py.
//
// Threefry-4x32-13 of Salmon et al. (SC11, doi:10.1145/2063384.2063405), keyed by (seed, stream) and
// counted by (shot, step, block), then Box and Muller's transform.  A `Lanes` says what a number is:
// a vector of shots on a CPU (lanes.h), one shot in a thread of a GPU.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define JAXSDE_FN __host__ __device__ __forceinline__
#else
#define JAXSDE_FN inline __attribute__((always_inline))
#endif

namespace jaxsde {

enum Stream : uint32_t { PROCESS = 0, INITIAL = 1, FREQUENCY = 2 };

struct Key {
  uint32_t k[5];
};

JAXSDE_FN Key make_key(uint32_t seed0, uint32_t seed1, uint32_t stream) {
  return {{seed0, seed1, stream, 0u, 0x1BD11BDAu ^ seed0 ^ seed1 ^ stream}};
}

template <class L>
JAXSDE_FN typename L::U rotate(typename L::U x, int bits) {
  return (x << bits) | (x >> (32 - bits));
}

// Threefry-4x32: even rounds mix (0, 1) and (2, 3), odd rounds (0, 3) and (2, 1).
template <class L, int ROUNDS = 13>
JAXSDE_FN void threefry(const Key& key, typename L::U (&x)[4]) {
  constexpr int LEFT[8] = {10, 11, 13, 23, 6, 17, 25, 18};
  constexpr int RIGHT[8] = {26, 21, 27, 5, 20, 11, 10, 20};
  for (int j = 0; j < 4; ++j) x[j] = x[j] + key.k[j];
#pragma GCC unroll 20
  for (int r = 0; r < ROUNDS; ++r) {
    const int a = r % 2 ? 3 : 1, b = r % 2 ? 1 : 3;
    x[0] = x[0] + x[a];
    x[a] = rotate<L>(x[a], LEFT[r % 8]) ^ x[0];
    x[2] = x[2] + x[b];
    x[b] = rotate<L>(x[b], RIGHT[r % 8]) ^ x[2];
    if (r % 4 == 3) {
      const int i = r / 4 + 1;
      for (int j = 0; j < 4; ++j) x[j] = x[j] + key.k[(i + j) % 5];
      x[3] = x[3] + static_cast<uint32_t>(i);
    }
  }
}

// Minimax polynomials, found by bench/normal_coefficients.py.  LOG: -2 ln(1 + f)/f on [-1/2, 0], COS
// and SIN: cos(2 pi x) and sin(2 pi x)/x in x^2 on [-1/8, 1/8].
template <class T>
struct Series;

template <>
struct Series<float> {
  static constexpr int LOG = 9, COS = 4, SIN = 4;
  static JAXSDE_FN float log(int i) {
    constexpr float c[LOG] = {-2.0000000454418707f, 0.99998570222296054f, -0.66740131620213375f,
                              0.48560934680747494f, -0.53922825090536656f, -0.40707705120842281f,
                              -2.5153127137650425f, -3.3915646764985641f,  -2.8821748071417154f};
    return c[i];
  }
  static JAXSDE_FN float cos(int i) {
    constexpr float c[COS] = {0.99999997242434712f, -19.739152227480955f, 64.921252793917660f,
                              -83.592607682425094f};
    return c[i];
  }
  static JAXSDE_FN float sin(int i) {
    constexpr float c[SIN] = {6.2831852868339061f, -41.341661455428967f, 81.592353621114892f,
                              -75.393565006574416f};
    return c[i];
  }
};

template <>
struct Series<double> {
  static constexpr int LOG = 20, COS = 7, SIN = 7;
  static JAXSDE_FN double log(int i) {
    constexpr double c[LOG] = {
        -1.9999999999999999194, 1.0000000000001294727, -0.66666666663288092885,
        0.50000000349754024976, -0.39999980864433324208, 0.33333972165171999265,
        -0.28557256837898865302, 0.2522075484334321307, -0.19715729433062491162,
        0.41282017459171294756, 1.192815987663054597, 6.9916238834032350897,
        26.008296174937712342, 77.454526725079334635, 174.53109001983249054,
        296.65953762932061511, 366.77113863801918819, 313.36299520198801494,
        165.77751658132721006, 41.624833725934093926};
    return c[i];
  }
  static JAXSDE_FN double cos(int i) {
    constexpr double c[COS] = {0.99999999999999995291, -19.739208802178421743,
                               64.939394022365582786,  -85.456817090398641353,
                               60.244620093000916044,  -26.424257435906728882,
                               7.8102995011910351367};
    return c[i];
  }
  static JAXSDE_FN double sin(int i) {
    constexpr double c[SIN] = {6.2831853071795864561,  -41.341702240399631477,
                               81.605249275944520611,  -76.705859703318341899,
                               42.058684902478219646,  -15.093797530736733866,
                               3.7807267404788247826};
    return c[i];
  }
};

// sqrt(y) of a normal y > 0.  In float32 by y rsqrt(y): a first guess from the bits of y (to 3.5 %), and
// a series in e = 1 - y guess^2, |e| < 0.0682, which leaves 2.3e-8.  A vector unit's own sqrt takes
// longer than everything else about a normal.
template <class L>
JAXSDE_FN typename L::F root(typename L::F y) {
  if constexpr (L::BITS == 64) {
    return L::sqrt(y);
  } else {
    using F = typename L::F;
    const F guess = L::real(0x5F374740 - (L::bits(y) >> 1));
    const F near = y * guess;
    const F e = 1.0f - near * guess;
    F series = e * 0.27499527820489364f + 0.31393689991367153f;
    series = series * e + 0.37499734710108060f;
    series = series * e + 0.49999832674497986f;
    series = series * e + 1.0000000006503756f;
    return near * series;
  }
}

// r = sqrt(-2 ln u), u = (a + 1/2)/2^32.  As a signed number a/2^32 is u - 1 from u = 1/2 on, where
// ln u = ln(1 + f), f = u - 1; below, u = m 2^e and f = m - 1, m in [1/2, 1).
template <class L>
JAXSDE_FN typename L::F radius(typename L::U a) {
  using F = typename L::F;
  using I = typename L::I;
  using T = typename L::T;
  const F w = L::convert(L::widen(a)) * T(0x1p-32) + T(0x1p-33);
  const I bits = L::bits(w);
  const I high = bits >> (L::BITS - 1);  // all ones where u is above 1/2
  const I mantissa = (bits & L::MANTISSA) | L::HALF;
  const F m = L::real(mantissa) - T(1);
  const F f = L::real((bits & high) | (L::bits(m) & ~high));
  const I e = ((bits >> L::MANTISSA_BITS) - L::HALF_EXPONENT) & ~high;
  F series = f * Series<T>::log(Series<T>::LOG - 1) + Series<T>::log(Series<T>::LOG - 2);
#pragma GCC unroll 32
  for (int i = Series<T>::LOG - 3; i >= 0; --i) series = series * f + Series<T>::log(i);
  return root<L>(series * f + L::convert(e) * T(-1.38629436111989061883));  // -2 ln 2
}

// z = r (cos, sin)(2 pi b/2^32): the nearest quarter turn, and series within 1/8 turn of it.
template <class L>
JAXSDE_FN void box_muller(typename L::U a, typename L::U b, typename L::F& first,
                          typename L::F& second) {
  using F = typename L::F;
  using I = typename L::I;
  using U = typename L::U;
  using T = typename L::T;
  const U turned = b + (1u << 29);
  const F x = L::convert(L::widen(b - (turned & 0xC0000000u))) * T(0x1p-32);
  const F square = x * x;
  F cos = square * Series<T>::cos(Series<T>::COS - 1) + Series<T>::cos(Series<T>::COS - 2);
#pragma GCC unroll 16
  for (int i = Series<T>::COS - 3; i >= 0; --i) cos = cos * square + Series<T>::cos(i);
  F sin = square * Series<T>::sin(Series<T>::SIN - 1) + Series<T>::sin(Series<T>::SIN - 2);
#pragma GCC unroll 16
  for (int i = Series<T>::SIN - 3; i >= 0; --i) sin = sin * square + Series<T>::sin(i);
  sin = sin * x;
  // Bits 31 and 30 of `turned` number the quarter: odd ones swap, and half turns change the sign.
  const U shifted = turned << 1;
  const I odd = L::widen(shifted) >> (L::BITS - 1);
  const I c = L::bits(cos), s = L::bits(sin);
  const I there = (odd & s) | (~odd & c), beside = (odd & c) | (~odd & s);
  const F r = radius<L>(a);
  first = r * L::real(there ^ (L::widen(turned ^ shifted) & L::SIGN));
  second = r * L::real(beside ^ (L::widen(turned) & L::SIGN));
}

// COUNT standard normals of (seed, stream, step, shot); pairs whose bit in `live` is not set, for
// which nobody asks, are zero.
template <class L, int COUNT>
JAXSDE_FN void normals(const Key& key, typename L::U shot, uint32_t step, uint32_t live,
                       typename L::F (&out)[COUNT]) {
  using U = typename L::U;
  using F = typename L::F;
#pragma GCC unroll 16
  for (int block = 0; block < (COUNT + 3) / 4; ++block) {
    U x[4] = {shot, L::fill(step), L::fill(block), L::fill(0u)};
    threefry<L>(key, x);
#pragma GCC unroll 2
    for (int pair = 0; pair < 2; ++pair) {
      const int first = 4 * block + 2 * pair;
      if (first >= COUNT) break;
      F cos = L::splat(0), sin = L::splat(0);
      if (live >> (first / 2) & 1) box_muller<L>(x[2 * pair], x[2 * pair + 1], cos, sin);
      out[first] = cos;
      if (first + 1 < COUNT) out[first + 1] = sin;
    }
  }
}

}  // namespace jaxsde
