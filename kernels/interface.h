// What XLA hands to a launcher, turned into a plan and places for what was asked.
#pragma once

#include "shot.h"
#include "xla/ffi/api/ffi.h"

#ifndef JAXSDE_N
#define JAXSDE_N 6
#endif

namespace jaxsde {

namespace ffi = xla::ffi;

// Places of the outputs, null where they were not asked for.  With D tangents there are D of each of
// the first three, else one.
template <class T>
struct Outputs {
  T* record;         // (D or 1, shots, samples, K)
  T* filters;        // (D or 1, shots, filters)
  T* states;         // (D or 1, shots, stages, N)
  T* sums;           // (groups, samples, features)
  int64_t features;  // D^2, D^4 with D = row x, and if there are more x_i x_j, j <= i
  int64_t group;     // shots that are added up, in order
  const T* row;      // (N,)
};

template <ffi::DataType TYPE>
struct Call {
  using T = ffi::NativeType<TYPE>;
  Plan<T> plan;
  Outputs<T> out;
  int outputs;  // K
};

// The operands, results and attributes of a handler, as JAXSDE_HANDLER binds them.
#define JAXSDE_OPERANDS(TYPE)                                                                    \
  xla::ffi::Buffer<xla::ffi::U32> seed, xla::ffi::Buffer<xla::ffi::U32> ids,                     \
      xla::ffi::Buffer<xla::ffi::S32> program, xla::ffi::Buffer<xla::ffi::S32> live,             \
      xla::ffi::Buffer<TYPE> tables, xla::ffi::Buffer<TYPE> start, xla::ffi::Buffer<TYPE> row,   \
      xla::ffi::Buffer<TYPE> weights, xla::ffi::ResultBuffer<TYPE> record,                       \
      xla::ffi::ResultBuffer<TYPE> filters, xla::ffi::ResultBuffer<TYPE> states,                 \
      xla::ffi::ResultBuffer<TYPE> sums, int64_t n_samples, int64_t n_stages, int64_t n_outputs, \
      int64_t nodes, int64_t n_filters, int64_t features, int64_t group
#define JAXSDE_NAMES                                                                         \
  seed, ids, program, live, tables, start, row, weights, record, filters, states, sums,     \
      n_samples, n_stages, n_outputs, nodes, n_filters, features, group

template <ffi::DataType TYPE>
ffi::ErrorOr<Call<TYPE>> read_call(JAXSDE_OPERANDS(TYPE)) {
  using T = ffi::NativeType<TYPE>;
  constexpr int N = JAXSDE_N;
  const auto shape = tables.dimensions();
  const int64_t terms = nodes * (nodes + 1) / 2;
  if (nodes > MAX_NODES || n_filters > MAX_FILTERS || n_outputs < 1 || n_outputs > 2 ||
      shape[2] != terms + 1 ||
      shape[3] != (n_outputs == 1 ? Shape<N, 1>::SIZE : Shape<N, 2>::SIZE) ||
      int64_t(weights.element_count()) != n_samples * n_outputs * n_filters ||
      int64_t(row.element_count()) != N || live.element_count() != size_t(shape[1]) ||
      int64_t(start.element_count()) != shape[0] * (N * (N + 1) / 2) || n_filters % 4) {
    return ffi::Unexpected(
        ffi::Error::InvalidArgument("jaxsde: a plan that this kernel was not built for"));
  }
  auto asked = [](auto& buffer) {
    return buffer->element_count() ? buffer->typed_data() : static_cast<T*>(nullptr);
  };
  Call<TYPE> call;
  call.plan = {seed.typed_data(),
               ids.typed_data(),
               int64_t(ids.dimensions()[0]),
               int(program.dimensions()[0]),
               int(shape[1]),
               int(n_samples),
               int(n_stages),
               int(nodes),
               int(terms),
               int(shape[0]) - 1,
               int(n_filters),
               n_filters > 0 || record->element_count() > 0,
               program.typed_data(),
               live.typed_data(),
               tables.typed_data(),
               start.typed_data(),
               weights.typed_data()};
  call.out = {asked(record), asked(filters), asked(states),   asked(sums),
              features,      group,          row.typed_data()};
  call.outputs = int(n_outputs);
  return call;
}

}  // namespace jaxsde

// A handler NAME of `jaxsde::launch<TYPE>(context, operands, results, attributes)`.
#define JAXSDE_HANDLER(NAME, TYPE, CONTEXT)                                        \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(NAME, (jaxsde::launch<TYPE>),                      \
                                xla::ffi::Ffi::Bind()                              \
                                    .Ctx<CONTEXT>()                                \
                                    .Arg<xla::ffi::Buffer<xla::ffi::U32>>()        \
                                    .Arg<xla::ffi::Buffer<xla::ffi::U32>>()        \
                                    .Arg<xla::ffi::Buffer<xla::ffi::S32>>()        \
                                    .Arg<xla::ffi::Buffer<xla::ffi::S32>>()        \
                                    .Arg<xla::ffi::Buffer<TYPE>>()                 \
                                    .Arg<xla::ffi::Buffer<TYPE>>()                 \
                                    .Arg<xla::ffi::Buffer<TYPE>>()                 \
                                    .Arg<xla::ffi::Buffer<TYPE>>()                 \
                                    .Ret<xla::ffi::Buffer<TYPE>>()                 \
                                    .Ret<xla::ffi::Buffer<TYPE>>()                 \
                                    .Ret<xla::ffi::Buffer<TYPE>>()                 \
                                    .Ret<xla::ffi::Buffer<TYPE>>()                 \
                                    .Attr<int64_t>("n_samples")                    \
                                    .Attr<int64_t>("n_stages")                     \
                                    .Attr<int64_t>("n_outputs")                    \
                                    .Attr<int64_t>("nodes")                        \
                                    .Attr<int64_t>("n_filters")                    \
                                    .Attr<int64_t>("features")                     \
                                    .Attr<int64_t>("group"))
