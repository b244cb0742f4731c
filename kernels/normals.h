// Counter-based normals: the same words and the same series as jaxsde/engine/noise.py.
//
// Threefry-2x32-13 of Salmon et al. (SC11, doi:10.1145/2063384.2063405), keyed by seed, stream and pair
// and counted by (shot, step), then Box and Muller's transform.  A `Lanes` says what a number is: a
// vector of shots on a CPU (lanes.h), one shot in a thread of a GPU.
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
  uint32_t k[3];
};

JAXSDE_FN Key make_key(uint32_t first, uint32_t second) {
  return {{first, second, 0x1BD11BDAu ^ first ^ second}};
}

template <class U>
JAXSDE_FN U rotate(U x, int bits) {
  return (x << bits) | (x >> (32 - bits));
}

template <class U, int ROUNDS = 13>
JAXSDE_FN void threefry(const Key& key, U& x, U& y) {
  constexpr int ROTATIONS[8] = {13, 15, 26, 6, 17, 29, 16, 24};
  x = x + key.k[0];
  y = y + key.k[1];
#pragma GCC unroll 20
  for (int r = 0; r < ROUNDS; ++r) {
    x = x + y;
    y = rotate(y, ROTATIONS[r % 8]) ^ x;
    if (r % 4 == 3) {
      const int i = r / 4 + 1;
      x = x + key.k[i % 3];
      y = y + (key.k[(i + 1) % 3] + static_cast<uint32_t>(i));
    }
  }
}

// The keys of the pairs that hold COUNT normals of a stream: the words of (stream, pair).
template <int COUNT>
struct Keys {
  Key pair[(COUNT + 1) / 2];
};

template <int COUNT>
JAXSDE_FN Keys<COUNT> pair_keys(uint32_t seed0, uint32_t seed1, uint32_t stream) {
  Keys<COUNT> made;
  const Key seed = make_key(seed0, seed1);
  for (int p = 0; p < (COUNT + 1) / 2; ++p) {
    uint32_t x = stream, y = p;
    threefry(seed, x, y);
    made.pair[p] = make_key(x, y);
  }
  return made;
}

// Minimax polynomials, found by bench/normal_coefficients.py.  LOG: -2 ln(1 + f)/f on [-1/2, 0], TURN:
// -sin(2 pi x)/x in x^2 on [-1/4, 1/4].
template <class T>
struct Series;

template <>
struct Series<float> {
  static constexpr int LOG = 9, TURN = 5;
  static JAXSDE_FN float log(int i) {
    constexpr float c[LOG] = {
        -2.0000000454566362315f, 0.9999857053193650906f, -0.66740121818659203567f,
        0.4856103722883988752f, -0.53922358787091925785f, -0.40706887031055166706f,
        -2.5153165331569094745f, -3.3915938490472614345f, -2.8822000882850341783f};
    return c[i];
  }
  static JAXSDE_FN float turn(int i) {
    constexpr float c[TURN] = {
        -6.2831852737915113022f, 41.341677478382508617f, -81.602231242492567418f,
        76.574992218228086758f, -39.71091866884859015f};
    return c[i];
  }
};

template <>
struct Series<double> {
  static constexpr int LOG = 20, TURN = 9;
  static JAXSDE_FN double log(int i) {
    constexpr double c[LOG] = {
        -1.9999999999999999189, 1.0000000000001278625, -0.66666666663317983382,
        0.50000000347623666145, -0.39999980945848721263, 0.33333970248257110368,
        -0.28557286797129895479, 0.25220430623395928281, -0.19718207863676431994,
        0.41268678935737061702, 1.1923329252674716102, 6.9906568174514382886,
        26.008744902695867586, 77.465020371141342597, 174.56983539469072205, 296.74293510158063576,
        366.88792384305527318, 313.46831763605872568, 165.83342441090333353, 41.638161226953927178};
    return c[i];
  }
  static JAXSDE_FN double turn(int i) {
    constexpr double c[TURN] = {
        -6.2831853071795864753, 41.341702240399756229, -81.605249276073406057,
        76.70585975279849318, -42.058693923784989698, 15.094641620502241702,
        -3.8199270503430578322, 0.71772357889060631657, -0.10085632591696880125};
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
    F series = e * 0.27499471146208017275f + 0.31393675032666561014f;
    series = series * e + 0.37499734969957680857f;
    series = series * e + 0.4999983270711706461f;
    series = series * e + 1.0000000006493412555f;
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

// cos(2 pi b/2^32) = -sin(2 pi x), x = |b/2^32| - 1/4 with b as a signed number.  At b = -2^31 the absolute
// value overflows to itself, and the difference back to where it belongs.
template <class L>
JAXSDE_FN typename L::F cosine(typename L::U b) {
  using F = typename L::F;
  using T = typename L::T;
  const F x = L::convert(L::widen(L::magnitude(b) - (1u << 30))) * T(0x1p-32);
  const F square = x * x;
  F series = square * Series<T>::turn(Series<T>::TURN - 1) + Series<T>::turn(Series<T>::TURN - 2);
#pragma GCC unroll 16
  for (int i = Series<T>::TURN - 3; i >= 0; --i) series = series * square + Series<T>::turn(i);
  return x * series;
}

// z = r (cos, sin)(2 pi b/2^32).
template <class L>
JAXSDE_FN void box_muller(typename L::U a, typename L::U b, typename L::F& first,
                          typename L::F& second) {
  const typename L::F r = radius<L>(a);
  first = r * cosine<L>(b);
  second = r * cosine<L>(b - (1u << 30));
}

// Normals of the first PAIRS pairs.  A pair's words are one chain of operations: without branches
// between them a compiler lays the chains side by side.
template <class L, int PAIRS, int COUNT>
JAXSDE_FN void leading(const Keys<COUNT>& keys, typename L::U shot, uint32_t step,
                       typename L::F (&out)[COUNT]) {
  typename L::U x[PAIRS], y[PAIRS];
#pragma GCC unroll 16
  for (int pair = 0; pair < PAIRS; ++pair) {
    x[pair] = shot;
    y[pair] = L::fill(step);
    threefry(keys.pair[pair], x[pair], y[pair]);
  }
#pragma GCC unroll 16
  for (int pair = 0; pair < (COUNT + 1) / 2; ++pair) {
    typename L::F cos = L::splat(0), sin = L::splat(0);
    if (pair < PAIRS) box_muller<L>(x[pair], y[pair], cos, sin);
    out[2 * pair] = cos;
    if (2 * pair + 1 < COUNT) out[2 * pair + 1] = sin;
  }
}

// COUNT standard normals of a stream's (shot, step); pairs whose bit in `live` is not set, for which
// nobody asks, are zero.
template <class L, int COUNT>
JAXSDE_FN void normals(const Keys<COUNT>& keys, typename L::U shot, uint32_t step, uint32_t live,
                       typename L::F (&out)[COUNT]) {
  constexpr int PAIRS = (COUNT + 1) / 2;
  constexpr uint32_t ALL = (1u << PAIRS) - 1;
  if ((live & ALL) == ALL) return leading<L, PAIRS>(keys, shot, step, out);
  if constexpr (PAIRS > 1) {
    if ((live & ALL) == ALL >> 1) return leading<L, PAIRS - 1>(keys, shot, step, out);
  }
#pragma GCC unroll 16
  for (int pair = 0; pair < (COUNT + 1) / 2; ++pair) {
    typename L::F cos = L::splat(0), sin = L::splat(0);
    if (live >> pair & 1) {
      typename L::U x = shot, y = L::fill(step);
      threefry(keys.pair[pair], x, y);
      box_muller<L>(x, y, cos, sin);
    }
    out[2 * pair] = cos;
    if (2 * pair + 1 < COUNT) out[2 * pair + 1] = sin;
  }
}

}  // namespace jaxsde
