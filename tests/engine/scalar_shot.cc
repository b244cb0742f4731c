// One shot at a time by the arithmetic that a GPU's threads run, so that a CPU can check it.
#include "shot.h"

namespace {

using L = jaxsde::Scalar<float>;

template <int N, int K>
struct Sink {
  float* place;
  void record(int, int t, const float (&y)[K]) {
    for (int k = 0; k < K; ++k) place[t * K + k] = y[k];
  }
  void sums(int, const float (&)[N]) {}
  void state(int, int, const float (&)[N]) {}
  void filters(int, const float (&)[jaxsde::MAX_FILTERS]) {}
};

}  // namespace

// Records (shots, samples, 2) of a system of 6 states.
extern "C" void scalar_record(const uint32_t* seed, const uint32_t* ids, int64_t n_shots,
                              const int32_t* program, int n_segments, const int32_t* live,
                              const float* tables, int n_maps, int nodes, const float* start,
                              int n_samples, float* record) {
  constexpr int N = 6, K = 2;
  jaxsde::Plan<float> plan{};
  plan.seed = seed;
  plan.ids = ids;
  plan.n_shots = n_shots;
  plan.n_segments = n_segments;
  plan.n_maps = n_maps;
  plan.n_samples = n_samples;
  plan.nodes = nodes;
  plan.terms = nodes * (nodes + 1) / 2;
  plan.outputs = true;
  plan.program = program;
  plan.live = live;
  plan.tables = tables;
  plan.start = start;
  float maps[jaxsde::Shape<N, K>::SIZE], tangent[1][N], tangent_q[1][jaxsde::MAX_FILTERS];
  const jaxsde::Room<L, N> room{maps, tangent, tangent_q};
  for (int64_t shot = 0; shot < n_shots; ++shot) {
    Sink<N, K> sink{record + shot * n_samples * K};
    jaxsde::advance<L, N, K, false>(plan, ids[shot], room, sink);
  }
}
