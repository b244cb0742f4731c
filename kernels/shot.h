// The arithmetic of a shot, from its first sample to its last, for every launcher.
//
// A plan is a table of affine-Gaussian maps (jaxsde/engine/step.py),
//
//     x' = A x + b + L xi,    y = C x + d + N xi,    xi ~ N(0, 1), shared by state and record,
//
// whose elements are polynomials in the shot's two frequency offsets (engine/plan.py).  A segment of
// the sequence either repeats one map or has one for every sample.  Tangents of a map along D
// parameters ride along: they are the lower half of maps of twice the size.
#pragma once

#include "lanes.h"

#if defined(__CUDACC__)
#define JAXSDE_UNROLL _Pragma("unroll")
// Maps live in a thread's registers, which only constants can index.
#define JAXSDE_UNROLL_MAPS _Pragma("unroll")
#else
#define JAXSDE_UNROLL _Pragma("GCC unroll 32")
#define JAXSDE_UNROLL_MAPS
#endif

namespace jaxsde {

// One row of a map: offset, coefficients of x, then of the normals up to its own.
template <int N, int K>
struct Shape {
  static constexpr int NORMALS = N + K;
  static constexpr int SIZE = (N + K) * (N + 1) + NORMALS * (NORMALS + 1) / 2;
  // Where row i begins: rows 0 to N - 1 are the states, N to N + K - 1 the outputs.
  static constexpr JAXSDE_FN int row(int i) { return i * (N + 1) + i * (i + 1) / 2; }
};

// The bit of `live` that is set if every row has no normal but its own.
constexpr uint32_t DIAGONAL_NOISE = 1u << 30;
constexpr int MAX_FILTERS = 16;
constexpr int MAX_NODES = 16;
constexpr int MAX_TERMS = MAX_NODES * (MAX_NODES + 1) / 2;

// Columns of a program, one line for each segment.
enum Column { FIRST = 0, SAMPLES = 1, MAP = 2, MOVES = 3, ENDS_STAGE = 4, COLUMNS = 5 };

template <class T>
struct Plan {
  const uint32_t* seed;      // (2,)
  const uint32_t* ids;       // (shots,): index of each shot
  int64_t n_shots;
  int n_segments, n_maps, n_samples, n_stages;
  int nodes, terms;          // of the polynomials in the offsets: degrees i + j < nodes
  int tangents;              // D
  int n_filters;             // a multiple of four, zero for none
  bool outputs;              // whether anything reads y
  const int32_t* program;    // (segments, COLUMNS)
  const int32_t* live;       // (maps,): bit p for whether the normals 2 p and 2 p + 1 are used
  const T* tables;           // (1 + D, maps, 1 + terms, SIZE); the constant as a sum of two numbers
  const T* start;            // (1 + D, N (N + 1)/2): rows of the root of the initial covariance
  const T* weights;          // (samples, K, filters)
};

// Largest normal that can be drawn, rounded up: the offsets' polynomials span +- this.
constexpr double Z_MAX = 6.8;

// T_i(z_m/Z_MAX) T_j(z_s/Z_MAX), i + j < nodes, in the order of engine/plan.py.
template <class L>
JAXSDE_FN void jitter_basis(typename L::F z_m, typename L::F z_s, int nodes,
                            typename L::F (&basis)[MAX_TERMS]) {
  using F = typename L::F;
  using T = typename L::T;
  const F m = z_m * T(1 / Z_MAX), s = z_s * T(1 / Z_MAX);
  F before = L::splat(0), along = L::splat(1);
  int term = 0;
  for (int i = 0; i < nodes; ++i) {
    F last = L::splat(0), now = along;
    for (int j = 0; j < nodes - i; ++j) {
      basis[term++] = now;
      const F next = s * now * T(j ? 2 : 1) - last;
      last = now;
      now = next;
    }
    const F next = m * along * T(i ? 2 : 1) - before;
    before = along;
    along = next;
  }
}

// The map of one table at the shots' offsets.  What depends on them is small, and is added last to
// the constant's own remainder, so that the sum is rounded once.
template <class L, int SIZE>
JAXSDE_FN void evaluate(const typename L::T* table, int terms,
                        const typename L::F (&basis)[MAX_TERMS], typename L::F* map) {
  using F = typename L::F;
  JAXSDE_UNROLL_MAPS
  for (int e = 0; e < SIZE; ++e) {
    F rest = L::splat(table[SIZE + e]);
    for (int k = 1; k < terms; ++k) rest = rest + basis[k] * table[(k + 1) * SIZE + e];
    map[e] = rest + table[e];
  }
}

// Row i of a map applied to (x, xi), or of its tangent without the part of the state's tangent.
// DIAGONAL: it has no normals but its own, as all Euler-Maruyama steps.
template <class L, int N, int K, bool DIAGONAL = false>
JAXSDE_FN typename L::F apply_row(const typename L::F* map, int i, const typename L::F (&x)[N],
                                  const typename L::F (&xi)[N + K]) {
  const typename L::F* row = map + Shape<N, K>::row(i);
  typename L::F sum = row[0];
  JAXSDE_UNROLL
  for (int j = 0; j < N; ++j) sum = sum + row[1 + j] * x[j];
  JAXSDE_UNROLL
  for (int j = 0; j < N + K; ++j) {
    if (DIAGONAL ? j == i : j <= i) sum = sum + row[1 + N + j] * xi[j];
  }
  return sum;
}

// Row i of a map applied to a tangent of x, without offset or noise.
template <class L, int N, int K>
JAXSDE_FN typename L::F apply_linear(const typename L::F* map, int i,
                                     const typename L::F (&x)[N]) {
  const typename L::F* row = map + Shape<N, K>::row(i);
  typename L::F sum = row[1] * x[0];
  JAXSDE_UNROLL
  for (int j = 1; j < N; ++j) sum = sum + row[1 + j] * x[j];
  return sum;
}

// Sums over samples of weights y of one number of filters, a multiple of four.
template <class L, int K>
JAXSDE_FN void filter(const typename L::T* weights, int n_filters, const typename L::F (&y)[K],
                      typename L::F (&q)[MAX_FILTERS]) {
  JAXSDE_UNROLL
  for (int f = 0; f < MAX_FILTERS; f += 4) {
    if (f >= n_filters) break;
    JAXSDE_UNROLL
    for (int k = 0; k < K; ++k) {
      JAXSDE_UNROLL
      for (int g = f; g < f + 4; ++g) q[g] = q[g] + y[k] * weights[k * n_filters + g];
    }
  }
}

// Room for the maps of one vector of shots and what rides along; `maps` holds (1 + D) SIZE numbers.
template <class L, int N>
struct Room {
  typename L::F* maps;
  typename L::F (*tangent)[N];                 // (D, N)
  typename L::F (*tangent_q)[MAX_FILTERS];     // (D, filters)
};

// x = L0 xi, from the rows of a root.
template <class L, int N>
JAXSDE_FN void begin(const typename L::T* root, const typename L::F (&xi)[N],
                     typename L::F (&x)[N]) {
  JAXSDE_UNROLL
  for (int i = 0; i < N; ++i) {
    x[i] = L::splat(0);
    JAXSDE_UNROLL
    for (int j = 0; j < N; ++j) {
      if (j <= i) x[i] = x[i] + xi[j] * root[i * (i + 1) / 2 + j];
    }
  }
}

// One sample: x and its tangents move on, and y and its tangents go to the sink.
template <class L, int N, int K, bool TANGENTS, class Sink>
JAXSDE_FN void sample(const Plan<typename L::T>& plan, const Keys<N + K>& keys, typename L::U shot,
                      int t, uint32_t live, typename L::F (&x)[N], typename L::F (&q)[MAX_FILTERS],
                      const Room<L, N>& room, Sink& sink) {
  using F = typename L::F;
  constexpr int SIZE = Shape<N, K>::SIZE;
  F xi[N + K], next[N], y[K];
  normals<L, N + K>(keys, shot, t, live, xi);
  const typename L::T* weights = plan.weights + int64_t(t) * K * plan.n_filters;
  if constexpr (TANGENTS) {
    for (int d = 0; d < plan.tangents; ++d) {
      const F* change = room.maps + (d + 1) * SIZE;
      F moved[N], seen[K];
      JAXSDE_UNROLL
      for (int i = 0; i < N; ++i) {
        moved[i] = apply_row<L, N, K>(change, i, x, xi) +
                   apply_linear<L, N, K>(room.maps, i, room.tangent[d]);
      }
      JAXSDE_UNROLL
      for (int k = 0; k < K; ++k) {
        seen[k] = apply_row<L, N, K>(change, N + k, x, xi) +
                  apply_linear<L, N, K>(room.maps, N + k, room.tangent[d]);
      }
      JAXSDE_UNROLL
      for (int i = 0; i < N; ++i) room.tangent[d][i] = moved[i];
      filter<L, K>(weights, plan.n_filters, seen, room.tangent_q[d]);
      sink.record(d + 1, t, seen);
    }
  }
  const bool diagonal = live & DIAGONAL_NOISE;
  if (plan.outputs) {
    if (diagonal) {
      JAXSDE_UNROLL
      for (int k = 0; k < K; ++k) y[k] = apply_row<L, N, K, true>(room.maps, N + k, x, xi);
    } else {
      JAXSDE_UNROLL
      for (int k = 0; k < K; ++k) y[k] = apply_row<L, N, K>(room.maps, N + k, x, xi);
    }
    filter<L, K>(weights, plan.n_filters, y, q);
    sink.record(0, t, y);
  }
  if (diagonal) {
    JAXSDE_UNROLL
    for (int i = 0; i < N; ++i) next[i] = apply_row<L, N, K, true>(room.maps, i, x, xi);
  } else {
    JAXSDE_UNROLL
    for (int i = 0; i < N; ++i) next[i] = apply_row<L, N, K>(room.maps, i, x, xi);
  }
  JAXSDE_UNROLL
  for (int i = 0; i < N; ++i) x[i] = next[i];
  sink.sums(t, x);
}

// One vector of shots from the first sample to the last.
template <class L, int N, int K, bool TANGENTS, class Sink>
JAXSDE_FN void advance(const Plan<typename L::T>& plan, typename L::U shot, const Room<L, N>& room,
                       Sink& sink) {
  using F = typename L::F;
  using T = typename L::T;
  constexpr int SIZE = Shape<N, K>::SIZE;
  const auto keys = pair_keys<N + K>(plan.seed[0], plan.seed[1], PROCESS);
  constexpr int ROOTS = N * (N + 1) / 2;
  F basis[MAX_TERMS], x[N], q[MAX_FILTERS], xi[N];
  if (plan.nodes > 1) {
    F z[2];
    normals<L, 2>(pair_keys<2>(plan.seed[0], plan.seed[1], FREQUENCY), shot, 0, ~0u, z);
    jitter_basis<L>(z[0], z[1], plan.nodes, basis);
  }
  JAXSDE_UNROLL
  for (int f = 0; f < MAX_FILTERS; ++f) q[f] = L::splat(0);
  normals<L, N>(pair_keys<N>(plan.seed[0], plan.seed[1], INITIAL), shot, 0, ~0u, xi);
  begin<L, N>(plan.start, xi, x);
  if constexpr (TANGENTS) {
    for (int d = 0; d < plan.tangents; ++d) {
      begin<L, N>(plan.start + (d + 1) * ROOTS, xi, room.tangent[d]);
      for (int f = 0; f < MAX_FILTERS; ++f) room.tangent_q[d][f] = L::splat(0);
    }
  }
  int stage = 0;
  for (int s = 0; s < plan.n_segments; ++s) {
    const int32_t* line = plan.program + s * COLUMNS;
    const int first = line[FIRST], n = line[SAMPLES];
    for (int i = 0; i < n; ++i) {
      const int number = line[MAP] + (line[MOVES] ? i : 0);
      if (i == 0 || line[MOVES]) {
        const int64_t size = int64_t(plan.terms + 1) * SIZE;
        const T* table = plan.tables + number * size;
        evaluate<L, SIZE>(table, plan.terms, basis, room.maps);
        if constexpr (TANGENTS) {
          for (int d = 1; d <= plan.tangents; ++d) {
            evaluate<L, SIZE>(table + d * plan.n_maps * size, plan.terms, basis,
                              room.maps + d * SIZE);
          }
        }
      }
      sample<L, N, K, TANGENTS>(plan, keys, shot, first + i, plan.live[number], x, q, room, sink);
    }
    if (line[ENDS_STAGE]) {
      sink.state(0, stage, x);
      if constexpr (TANGENTS) {
        for (int d = 0; d < plan.tangents; ++d) sink.state(d + 1, stage, room.tangent[d]);
      }
      ++stage;
    }
  }
  sink.filters(0, q);
  if constexpr (TANGENTS) {
    for (int d = 0; d < plan.tangents; ++d) sink.filters(d + 1, room.tangent_q[d]);
  }
}

}  // namespace jaxsde
