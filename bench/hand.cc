// What one writes by hand for these three workloads alone: one shared map, no jitter, sixteen shots
// side by side, threads of its own, the generator of kernels/normals.h.  bench/engines.py times it.
#include <algorithm>
#include <thread>
#include <vector>

#include "lanes.h"

namespace {

using namespace jaxsde;
constexpr int W = 16;
using L = Vector<float, W>;
using F = L::F;

// x' = A x + R xi, y = C x + S xi for K outputs; matrices (6, 6), (6, M), (K, 6), (K, M), M = 6 + K.
template <int K, class Out>
void shots(const float* a, const float* r, const float* c, const float* s, int64_t first,
           int64_t last, int64_t steps, Out&& out) {
  constexpr int M = 6 + K;
  const auto keys = pair_keys<M>(1, 2, PROCESS);
  for (int64_t shot = first; shot < last; shot += W) {
    uint32_t ids[W];
    for (int i = 0; i < W; ++i) ids[i] = uint32_t(shot + i);
    const L::U id = L::load(ids, W);
    F x[6];
    for (F& value : x) value = L::splat(1);
    out.begin(shot);
    for (int64_t t = 0; t < steps; ++t) {
      F xi[M], next[6], y[K];
      normals<L, M>(keys, id, uint32_t(t), ~0u, xi);
#pragma GCC unroll 8
      for (int i = 0; i < 6; ++i) {
        next[i] = x[0] * a[6 * i];
#pragma GCC unroll 8
        for (int j = 1; j < 6; ++j) next[i] = next[i] + x[j] * a[6 * i + j];
#pragma GCC unroll 8
        for (int j = 0; j <= i; ++j) next[i] = next[i] + xi[j] * r[M * i + j];
      }
#pragma GCC unroll 2
      for (int k = 0; k < K; ++k) {
        y[k] = x[0] * c[6 * k];
#pragma GCC unroll 8
        for (int j = 1; j < 6; ++j) y[k] = y[k] + x[j] * c[6 * k + j];
#pragma GCC unroll 8
        for (int j = 0; j < M; ++j) {
          if (j <= 6 + k) y[k] = y[k] + xi[j] * s[M * k + j];
        }
      }
#pragma GCC unroll 8
      for (int i = 0; i < 6; ++i) x[i] = next[i];
      out.sample(t, y);
    }
    out.end(x);
  }
}

// X: records (blocks of 16 shots, steps, 2, 16), the layout that costs least.
struct Record {
  float* place;
  int64_t steps;
  float* at = nullptr;
  void begin(int64_t shot) { at = place + shot * steps * 2; }
  void sample(int64_t, const F (&y)[2]) {
    memcpy(at, y, sizeof y);  // wherever the array begins
    at += 2 * W;
  }
  void end(const F (&)[6]) {}
};

// F: four filters of two outputs, weights (steps, 2, 4).
struct Filters {
  const float* weights;
  float* place;
  F q[4];
  void begin(int64_t shot) {
    for (F& value : q) value = L::splat(0);
    at = shot;
  }
  void sample(int64_t t, const F (&y)[2]) {
    for (int k = 0; k < 2; ++k) {
      for (int f = 0; f < 4; ++f) q[f] = q[f] + y[k] * weights[(t * 2 + k) * 4 + f];
    }
  }
  void end(const F (&)[6]) { memcpy(place + at * 4, q, sizeof q); }
  int64_t at = 0;
};

// E: the last state alone.
struct Last {
  float* place;
  int64_t at = 0;
  void begin(int64_t shot) { at = shot; }
  void sample(int64_t, const F (&)[1]) {}
  void end(const F (&x)[6]) { memcpy(place + at * 6, x, sizeof x); }
};

template <class Work>
void on_all(int64_t n, Work&& work) {
  const int64_t threads = std::thread::hardware_concurrency();
  const int64_t each = (n / W + threads - 1) / threads * W;
  std::vector<std::thread> pool;
  for (int64_t i = 0; i * each < n; ++i) {
    pool.emplace_back([=] { work(i * each, std::min(n, (i + 1) * each)); });
  }
  for (auto& thread : pool) thread.join();
}

}  // namespace

extern "C" {

// n fused products of vectors on every core, in sixteen independent chains: the peak of the machine.
float hand_peak(int64_t n) {
  std::vector<float> out(std::thread::hardware_concurrency());
  on_all(int64_t(out.size()) * W, [&](int64_t first, int64_t) {
    F chain[16];
    for (int i = 0; i < 16; ++i) chain[i] = L::splat(float(i));
    const F factor = L::splat(0.999f), shift = L::splat(float(first + 1));
    for (int64_t i = 0; i < n; i += 16) {
#pragma GCC unroll 16
      for (int j = 0; j < 16; ++j) chain[j] = chain[j] * factor + shift;
    }
    for (int j = 1; j < 16; ++j) chain[0] += chain[j];
    out[first / W] = chain[0][0];
  });
  return out[0];
}

void hand_x(const float* a, const float* r, const float* c, const float* s, int64_t n,
            int64_t steps, float* record) {
  on_all(n, [=](int64_t first, int64_t last) {
    shots<2>(a, r, c, s, first, last, steps, Record{record, steps});
  });
}

void hand_f(const float* a, const float* r, const float* c, const float* s, int64_t n,
            int64_t steps, const float* weights, float* q) {
  on_all(n, [=](int64_t first, int64_t last) {
    shots<2>(a, r, c, s, first, last, steps, Filters{weights, q, {}});
  });
}

void hand_e(const float* a, const float* r, const float* c, const float* s, int64_t n,
            int64_t steps, float* x) {
  on_all(n, [=](int64_t first, int64_t last) {
    shots<1>(a, r, c, s, first, last, steps, Last{x});
  });
}
}
