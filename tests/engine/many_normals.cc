// The generator of kernels/normals.h by itself: its words, its normals, and statistics of very many.
#include <thread>
#include <vector>

#include "lanes.h"

namespace {

using namespace jaxsde;
constexpr int W = 16;
using L = Vector<float, W>;

template <class T>
void draw(const uint32_t* seed, uint32_t stream, uint32_t step, const uint32_t* shots, int64_t n,
          T* out) {
  const auto keys = pair_keys<8>(seed[0], seed[1], stream);
  for (int64_t i = 0; i < n; ++i) {
    T z[8];
    normals<Scalar<T>, 8>(keys, shots[i], step, ~0u, z);
    for (int j = 0; j < 8; ++j) out[i * 8 + j] = z[j];
  }
}

}  // namespace

extern "C" {

void words(const uint32_t* key, const uint32_t* counter, uint32_t* out) {
  uint32_t x[2] = {counter[0], counter[1]};
  threefry(make_key(key[0], key[1]), x[0], x[1]);
  memcpy(out, x, sizeof x);
}

void draws_f32(const uint32_t* seed, uint32_t stream, uint32_t step, const uint32_t* shots,
               int64_t n, float* out) {
  draw(seed, stream, step, shots, n, out);
}

void draws_f64(const uint32_t* seed, uint32_t stream, uint32_t step, const uint32_t* shots,
               int64_t n, double* out) {
  draw(seed, stream, step, shots, n, out);
}

// Of `vectors` x `steps` x 16 x 8 normals: sums of z, z^2, z^3, z^4; products of a normal with that of the
// step before, of its partner of one Box-Muller pair, of the shot beside it and of another stream; of
// the squares of the first two; and a histogram of 4096 bins over [-8, 8).
void statistics(uint32_t seed, int64_t vectors, int64_t steps, double* sums, int64_t* bins) {
  constexpr int SUMS = 10, BINS = 4096, THREADS = 2;
  std::vector<std::vector<double>> all(THREADS, std::vector<double>(SUMS));
  std::vector<std::vector<int64_t>> counts(THREADS, std::vector<int64_t>(BINS));
  std::vector<std::thread> pool;
  for (int thread = 0; thread < THREADS; ++thread) {
    pool.emplace_back([&, thread] {
      const auto keys = pair_keys<8>(seed, 1, PROCESS), other = pair_keys<8>(seed, 1, INITIAL);
      for (int64_t v = thread; v < vectors; v += THREADS) {
        uint32_t ids[W];
        for (int i = 0; i < W; ++i) ids[i] = uint32_t(v * W + i);
        const L::U shot = L::load(ids, W);
        L::F before[8] = {}, total[SUMS] = {};
        for (int64_t t = 0; t < steps; ++t) {
          L::F z[8], apart[8];
          normals<L, 8>(keys, shot, uint32_t(t), ~0u, z);
          normals<L, 8>(other, shot, uint32_t(t), ~0u, apart);
          for (int j = 0; j < 8; ++j) {
            const L::F square = z[j] * z[j], partner = z[j ^ 1];
            L::F beside;
            for (int i = 0; i < W; ++i) beside[i] = z[j][(i + 1) % W];
            total[0] += z[j];
            total[1] += square;
            total[2] += square * z[j];
            total[3] += square * square;
            total[4] += z[j] * before[j];
            total[5] += z[j] * partner;
            total[6] += z[j] * beside;
            total[7] += z[j] * apart[j];
            total[8] += (square - 1.0f) * (before[j] * before[j] - (t ? 1.0f : 0.0f));
            total[9] += (square - 1.0f) * (partner * partner - 1.0f);
            for (int i = 0; i < W; ++i) {
              const int bin = int((z[j][i] + 8.0f) * (BINS / 16));
              ++counts[thread][bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin];
            }
            before[j] = z[j];
          }
        }
        for (int k = 0; k < SUMS; ++k) {
          for (int i = 0; i < W; ++i) all[thread][k] += total[k][i];
        }
      }
    });
  }
  for (auto& thread : pool) thread.join();
  for (int thread = 0; thread < THREADS; ++thread) {
    for (int k = 0; k < SUMS; ++k) sums[k] += all[thread][k];
    for (int b = 0; b < BINS; ++b) bins[b] += counts[thread][b];
  }
}
}
