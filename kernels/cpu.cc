// CPU launcher: vectors of shots side by side, all cores of XLA's own thread pool.
//
// Built at first use by jaxsde/engine/native.py, which says how; JAXSDE_N is the number of states.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "interface.h"

namespace jaxsde {

// As many shots as fill the widest registers, so that a product of them is one instruction.
#if defined(__AVX512F__)
constexpr int REGISTER = 64;
#elif defined(__AVX__)
constexpr int REGISTER = 32;
#else
constexpr int REGISTER = 16;
#endif

// W vectors of W numbers each, rows turned into columns.
template <class L>
void transpose(typename L::F (&v)[L::WIDTH]) {
  constexpr int W = L::WIDTH;
  using F = typename L::F;
  using I = typename L::I;
  I low, high;
  for (int i = 0; i < W; ++i) {
    low[i] = i / 2 + (i % 2 ? W : 0);
    high[i] = low[i] + W / 2;
  }
  for (int round = 1; round < W; round *= 2) {
    F next[W];
#pragma GCC unroll 16
    for (int i = 0; i < W / 2; ++i) {
#if defined(__clang__)
      for (int j = 0; j < W; ++j) {
        next[2 * i][j] = low[j] < W ? v[i][low[j]] : v[i + W / 2][low[j] - W];
        next[2 * i + 1][j] = high[j] < W ? v[i][high[j]] : v[i + W / 2][high[j] - W];
      }
#else
      next[2 * i] = __builtin_shuffle(v[i], v[i + W / 2], low);
      next[2 * i + 1] = __builtin_shuffle(v[i], v[i + W / 2], high);
#endif
    }
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) v[i] = next[i];
  }
}

// Takes what the shots of one vector give, and writes what was asked for.
template <class L, int N, int K>
class Sink {
 public:
  using T = typename L::T;
  using F = typename L::F;
  static constexpr int W = L::WIDTH;

  Sink(const Plan<T>& plan, const Outputs<T>& out)
      : plan_(plan), out_(out), tangents_(plan.tangents), tiles_(plan.tangents + 1) {
    if (out.sums) totals_.resize(int64_t(plan.n_samples) * out.features);
  }

  void start(int64_t shot) {
    shot_ = shot;
    count_ = std::min<int64_t>(W, plan_.n_shots - shot);
    for (int i = 0; i < W; ++i) inside_[i] = i < count_ ? -1 : 0;
    for (Tile& tile : tiles_) tile.held = tile.written = 0;
  }

  JAXSDE_FN void record(int d, int, const F (&y)[K]) {
    if (!out_.record || (tangents_ && d == 0)) return;
    Tile& tile = tiles_[d];
    for (int k = 0; k < K; ++k) {
      tile.v[tile.held++] = y[k];
      if (tile.held == W) flush(d);
    }
  }

  JAXSDE_FN void sums(int t, const F (&x)[N]) {
    if (!out_.sums) return;
    F* total = totals_.data() + int64_t(t) * out_.features;
    F d = L::splat(0);
    for (int i = 0; i < N; ++i) d = d + x[i] * out_.row[i];
    const F square = d * d;
    add(total, square);
    add(total + 1, square * square);
    if (out_.features == 2) return;
    int at = 2;
    for (int i = 0; i < N; ++i) {
      for (int j = 0; j <= i; ++j) add(total + at++, x[i] * x[j]);
    }
  }

  void state(int d, int stage, const F (&x)[N]) {
    if (!out_.states || (tangents_ && d == 0)) return;
    T* place = out_.states + slot(d) * plan_.n_shots * plan_.n_stages * N;
    for (int lane = 0; lane < count_; ++lane) {
      for (int i = 0; i < N; ++i) {
        place[((shot_ + lane) * plan_.n_stages + stage) * N + i] = x[i][lane];
      }
    }
  }

  void filters(int d, const F (&q)[MAX_FILTERS]) {
    if (!out_.filters || (tangents_ && d == 0)) return;
    T* place = out_.filters + slot(d) * plan_.n_shots * plan_.n_filters;
    for (int lane = 0; lane < count_; ++lane) {
      for (int f = 0; f < plan_.n_filters; ++f) {
        place[(shot_ + lane) * plan_.n_filters + f] = q[f][lane];
      }
    }
  }

  void finish() {
    for (size_t d = 0; d < tiles_.size(); ++d) {
      if (out_.record && tiles_[d].held) flush(int(d));
    }
  }

  // Writes the sums of a group of shots, lanes added in order, and forgets them.
  void close(int64_t group) {
    if (!out_.sums) return;
    const int64_t size = int64_t(plan_.n_samples) * out_.features;
    for (int64_t i = 0; i < size; ++i) {
      double total = 0;
      for (int lane = 0; lane < W; ++lane) total += totals_[i][lane];
      out_.sums[group * size + i] = T(total);
      totals_[i] = L::splat(0);
    }
  }

 private:
  struct Tile {
    F v[W];
    int held = 0;
    int64_t written = 0;
  };

  int64_t slot(int d) const { return tangents_ ? d - 1 : 0; }

  JAXSDE_FN void add(F* total, F value) {
    // What the surplus lanes of the last vector hold may be infinite: it is left out by its bits.
    *total = *total + L::real(L::bits(value) & inside_);
  }

  void flush(int d) {
    Tile& tile = tiles_[d];
    const int64_t length = int64_t(plan_.n_samples) * K;
    T* place = out_.record + (slot(d) * plan_.n_shots + shot_) * length + tile.written;
    for (int i = tile.held; i < W; ++i) tile.v[i] = L::splat(0);
    transpose<L>(tile.v);
    if (tile.held == W && count_ == W) {
      JAXSDE_UNROLL
      for (int lane = 0; lane < W; ++lane) memcpy(place + lane * length, &tile.v[lane], sizeof(F));
    } else {
      for (int lane = 0; lane < count_; ++lane) {
        memcpy(place + lane * length, &tile.v[lane], tile.held * sizeof(T));
      }
    }
    tile.written += tile.held;
    tile.held = 0;
  }

  const Plan<T>& plan_;
  const Outputs<T>& out_;
  const int tangents_;
  std::vector<Tile> tiles_;
  std::vector<F> totals_;
  typename L::I inside_;
  int64_t shot_ = 0, count_ = 0;
};

// Hands out numbers below `count` to whichever thread asks next, and lets one wait for all.
class Queue {
 public:
  explicit Queue(int64_t count) : count_(count) {}

  template <class Work>
  void drain(Work&& work) {
    int64_t done = 0;
    for (int64_t i; (i = next_.fetch_add(1)) < count_; ++done) work(i);
    std::lock_guard<std::mutex> lock(mutex_);
    if ((done_ += done) == count_) finished_.notify_all();
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [this] { return done_ == count_; });
  }

  bool open() const { return next_.load() < count_; }

 private:
  const int64_t count_;
  std::atomic<int64_t> next_{0};
  int64_t done_ = 0;
  std::mutex mutex_;
  std::condition_variable finished_;
};

// Shots [first, last) of one group, on the thread that calls.
template <class L, int N, int K, bool TANGENTS>
void run_group(const Plan<typename L::T>& plan, const Outputs<typename L::T>& out, int64_t group) {
  using F = typename L::F;
  std::vector<F> maps((1 + plan.tangents) * Shape<N, K>::SIZE);
  std::vector<F> tangents(plan.tangents * N), tangent_q(plan.tangents * MAX_FILTERS);
  const Room<L, N> room{maps.data(), reinterpret_cast<F(*)[N]>(tangents.data()),
                        reinterpret_cast<F(*)[MAX_FILTERS]>(tangent_q.data())};
  Sink<L, N, K> sink(plan, out);
  const int64_t first = group * out.group, last = std::min(plan.n_shots, first + out.group);
  for (int64_t shot = first; shot < last; shot += L::WIDTH) {
    sink.start(shot);
    advance<L, N, K, TANGENTS>(plan, L::load(plan.ids + shot, last - shot), room, sink);
    sink.finish();
  }
  sink.close(group);
}

template <class L, int N, int K, bool TANGENTS>
void run_all(ffi::ThreadPool& pool, const Plan<typename L::T>& plan,
             const Outputs<typename L::T>& out) {
  const int64_t groups = (plan.n_shots + out.group - 1) / out.group;
  // A helper that the pool starts late may find nothing to do after all is done: it owns the queue.
  auto queue = std::make_shared<Queue>(groups);
  const auto* plan_at = &plan;
  const auto* out_at = &out;
  const int64_t helpers = std::min<int64_t>(pool.num_threads(), groups) - 1;
  for (int64_t i = 0; i < helpers; ++i) {
    pool.Schedule([queue, plan_at, out_at] {
      if (!queue->open()) return;
      queue->drain([&](int64_t g) { run_group<L, N, K, TANGENTS>(*plan_at, *out_at, g); });
    });
  }
  queue->drain([&](int64_t g) { run_group<L, N, K, TANGENTS>(plan, out, g); });
  queue->wait();
}

// Asks for large pages under a fresh output, before it is touched: with small ones, making the pages
// of a record takes longer than the record.  A hint, which a system may leave unheard.
void prefer_large_pages(void* start, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t PAGE = uintptr_t(1) << 21;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(start) + PAGE - 1) & ~(PAGE - 1);
  const uintptr_t last = (reinterpret_cast<uintptr_t>(start) + bytes) & ~(PAGE - 1);
  if (start && last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

template <ffi::DataType TYPE>
ffi::Error launch(ffi::ThreadPool pool, JAXSDE_OPERANDS(TYPE)) {
  using T = ffi::NativeType<TYPE>;
  using L = Vector<T, REGISTER / sizeof(T)>;
  constexpr int N = JAXSDE_N;
  auto read = read_call<TYPE>(JAXSDE_NAMES);
  if (!read) return read.error();
  const Plan<T>& plan = read->plan;
  const Outputs<T>& out = read->out;
  prefer_large_pages(out.record, std::max(plan.tangents, 1) * plan.n_shots * plan.n_samples *
                                     int64_t(sizeof(T)) * read->outputs);
  const bool tangents = plan.tangents > 0;
  if (read->outputs == 1) {
    tangents ? run_all<L, N, 1, true>(pool, plan, out) : run_all<L, N, 1, false>(pool, plan, out);
  } else {
    tangents ? run_all<L, N, 2, true>(pool, plan, out) : run_all<L, N, 2, false>(pool, plan, out);
  }
  return ffi::Error::Success();
}

}  // namespace jaxsde

JAXSDE_HANDLER(jaxsde_advance_f32, xla::ffi::F32, xla::ffi::ThreadPool);
JAXSDE_HANDLER(jaxsde_advance_f64, xla::ffi::F64, xla::ffi::ThreadPool);
