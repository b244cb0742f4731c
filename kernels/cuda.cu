// CUDA launcher: one shot a thread, its map and state in registers.
//
// Built at first use by jaxsde/engine/native.py for sm_80 and sm_90.  The arithmetic is that of the CPU
// (shot.h on a Scalar), so what a CPU has proved of it holds here.
#include <algorithm>

#include <cuda_runtime.h>

#include "interface.h"

namespace jaxsde {

constexpr int THREADS = 128;
// Tangents of a call, whose maps a thread keeps in its local memory.
constexpr int MAX_TANGENTS = 8;

// Takes what the shot of one thread gives, and writes what was asked for.  `inside` is false for the
// surplus threads of the last block, which run along because sums are made by all.
template <class L, int N, int K>
class Sink {
 public:
  using T = typename L::T;

  __device__ Sink(const Plan<T>& plan, const Outputs<T>& out, int64_t shot, bool inside,
                  int64_t group, double* shared)
      : plan_(plan), out_(out), shot_(shot), inside_(inside), group_(group), shared_(shared) {}

  __device__ void record(int d, int t, const T (&y)[K]) {
    if (!out_.record || !inside_ || (plan_.tangents && d == 0)) return;
    T* place = out_.record + ((slot(d) * plan_.n_shots + shot_) * plan_.n_samples + t) * K;
    for (int k = 0; k < K; ++k) place[k] = y[k];
  }

  __device__ void sums(int t, const T (&x)[N]) {
    if (!out_.sums) return;
    T d = 0;
    for (int i = 0; i < N; ++i) d += x[i] * out_.row[i];
    T* total = out_.sums + (group_ * plan_.n_samples + t) * out_.features;
    add(total, d * d);
    add(total + 1, d * d * d * d);
    if (out_.features == 2) return;
    int at = 2;
    for (int i = 0; i < N; ++i) {
      for (int j = 0; j <= i; ++j) add(total + at++, x[i] * x[j]);
    }
  }

  __device__ void state(int d, int stage, const T (&x)[N]) {
    if (!out_.states || !inside_ || (plan_.tangents && d == 0)) return;
    T* place = out_.states + ((slot(d) * plan_.n_shots + shot_) * plan_.n_stages + stage) * N;
    for (int i = 0; i < N; ++i) place[i] = x[i];
  }

  __device__ void filters(int d, const T (&q)[MAX_FILTERS]) {
    if (!out_.filters || !inside_ || (plan_.tangents && d == 0)) return;
    T* place = out_.filters + (slot(d) * plan_.n_shots + shot_) * plan_.n_filters;
    JAXSDE_UNROLL
    for (int f = 0; f < MAX_FILTERS; ++f) {
      if (f < plan_.n_filters) place[f] = q[f];
    }
  }

 private:
  __device__ int64_t slot(int d) const { return plan_.tangents ? d - 1 : 0; }

  // Adds up a block's values in a fixed order; its first thread adds that to what came before.
  __device__ void add(T* total, T value) {
    double sum = inside_ ? double(value) : 0.0;
    for (int offset = 16; offset; offset /= 2) sum += __shfl_down_sync(~0u, sum, offset);
    if (threadIdx.x % 32 == 0) shared_[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int warp = 1; warp < THREADS / 32; ++warp) sum += shared_[warp];
      *total = T(double(*total) + sum);
    }
    __syncthreads();
  }

  const Plan<T>& plan_;
  const Outputs<T>& out_;
  const int64_t shot_;
  const bool inside_;
  const int64_t group_;
  double* shared_;
};

// A block takes the shots of one group, THREADS at a time; without sums a group is THREADS shots.
template <class L, int N, int K, bool TANGENTS>
__global__ void __launch_bounds__(THREADS)
    advance_kernel(Plan<typename L::T> plan, Outputs<typename L::T> out) {
  using F = typename L::F;
  constexpr int D = TANGENTS ? MAX_TANGENTS : 0;
  __shared__ double shared[THREADS / 32];
  const int64_t group = blockIdx.x, first = group * out.group;
  const int64_t last = first + out.group < plan.n_shots ? first + out.group : plan.n_shots;
  for (int64_t from = first; from < last; from += THREADS) {
    const int64_t shot = from + threadIdx.x;
    const bool inside = shot < last;
    F maps[(1 + D) * Shape<N, K>::SIZE], tangent[D + 1][N], tangent_q[D + 1][MAX_FILTERS];
    const Room<L, N> room{maps, tangent, tangent_q};
    Sink<L, N, K> sink(plan, out, shot, inside, group, shared);
    advance<L, N, K, TANGENTS>(plan, plan.ids[inside ? shot : last - 1], room, sink);
  }
}

template <int N, int K, bool TANGENTS>
ffi::Error enqueue(cudaStream_t stream, const Plan<float>& plan, Outputs<float> out) {
  if (out.sums) {
    const int64_t groups = (plan.n_shots + out.group - 1) / out.group;
    cudaMemsetAsync(out.sums, 0, groups * plan.n_samples * out.features * sizeof(float), stream);
  } else {
    out.group = THREADS;
  }
  const unsigned blocks = unsigned((plan.n_shots + out.group - 1) / out.group);
  advance_kernel<Scalar<float>, N, K, TANGENTS><<<blocks, THREADS, 0, stream>>>(plan, out);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) {
    return ffi::Error::Internal(std::string("jaxsde: ") + cudaGetErrorString(error));
  }
  return ffi::Error::Success();
}

template <ffi::DataType TYPE>
ffi::Error launch(cudaStream_t stream, JAXSDE_OPERANDS(TYPE)) {
  constexpr int N = JAXSDE_N;
  auto read = read_call<TYPE>(JAXSDE_NAMES);
  if (!read) return read.error();
  const auto& plan = read->plan;
  if (plan.tangents > MAX_TANGENTS) {
    return ffi::Error::InvalidArgument("jaxsde: more tangents than a thread holds");
  }
  if (read->outputs == 1) {
    return plan.tangents ? enqueue<N, 1, true>(stream, plan, read->out)
                         : enqueue<N, 1, false>(stream, plan, read->out);
  }
  return plan.tangents ? enqueue<N, 2, true>(stream, plan, read->out)
                       : enqueue<N, 2, false>(stream, plan, read->out);
}

}  // namespace jaxsde

JAXSDE_HANDLER(jaxsde_advance_f32, xla::ffi::F32, xla::ffi::PlatformStream<cudaStream_t>);
