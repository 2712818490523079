// The two matrix products of attention, in blocks that stay in registers: queries with keys, weights with values.
// A score is summed unit by unit of the head, a value unit by unit of the keys, in order of position: no sum depends on
// which rows or how many are computed together.
#pragma once

#include "attention_tile.h"

namespace {

// scores[r][j] <- queries[r] . keys[j] for V vectors of keys.
template <class Math, int R, int V>
void score_block(const typename Math::Operand* queries, int64_t stride, int units, const typename Math::Operand* keys,
                 float* scores) {
  Vec sums[R][V];
  PEREGRINE_UNROLL
  for (int r = 0; r < R; ++r) {
    PEREGRINE_UNROLL
    for (int v = 0; v < V; ++v) sums[r][v] = splat(0.0f);
  }
  for (int u = 0; u < units; ++u, keys += kTile) {
    typename Math::Lanes key[V];
    PEREGRINE_UNROLL
    for (int v = 0; v < V; ++v) key[v] = Math::load_operands(keys + v * kLanes);
    PEREGRINE_UNROLL
    for (int r = 0; r < R; ++r) {
      const typename Math::Lanes query = Math::broadcast(queries + r * stride + u);
      PEREGRINE_UNROLL
      for (int v = 0; v < V; ++v) sums[r][v] = Math::multiply_add(sums[r][v], query, key[v]);
    }
  }
  PEREGRINE_UNROLL
  for (int r = 0; r < R; ++r) {
    PEREGRINE_UNROLL
    for (int v = 0; v < V; ++v) store(scores + r * kTile + v * kLanes, sums[r][v]);
  }
}

// The same for the keys in [begin, end), multiples of kLanes.
template <class Math, int R>
void score(const typename Math::Operand* queries, int64_t stride, int units, const typename Math::Operand* keys,
           int begin, int end, float* scores) {
  int j = begin;
  for (; j + 4 * kLanes <= end; j += 4 * kLanes) {
    score_block<Math, R, 4>(queries, stride, units, keys + j, scores + j);
  }
  if (j + 2 * kLanes <= end) {
    score_block<Math, R, 2>(queries, stride, units, keys + j, scores + j);
    j += 2 * kLanes;
  }
  if (j < end) score_block<Math, R, 1>(queries, stride, units, keys + j, scores + j);
}

// The weights of one row and the keys [first, last) that it sees.
template <class Math>
struct RowWeights {
  const typename Math::Operand* units;  // [units of the tile]
  int first, last;
};

// accumulator[r] += weights[r] . values over the units [begin, end), for N vectors of the dimension.
template <class Math, int R, int N>
void add_block(float* accumulator, int padded, const typename Math::Operand* weights, int64_t stride,
               const typename Math::Operand* values, int begin, int end) {
  Vec sums[R][N];
  PEREGRINE_UNROLL
  for (int r = 0; r < R; ++r) {
    PEREGRINE_UNROLL
    for (int n = 0; n < N; ++n) sums[r][n] = load(accumulator + r * padded + n * kLanes);
  }
  for (int u = begin; u < end; ++u) {
    typename Math::Lanes value[N];
    PEREGRINE_UNROLL
    for (int n = 0; n < N; ++n) value[n] = Math::load_operands(values + u * padded + n * kLanes);
    PEREGRINE_UNROLL
    for (int r = 0; r < R; ++r) {
      const typename Math::Lanes weight = Math::broadcast(weights + r * stride + u);
      PEREGRINE_UNROLL
      for (int n = 0; n < N; ++n) sums[r][n] = Math::multiply_add(sums[r][n], weight, value[n]);
    }
  }
  PEREGRINE_UNROLL
  for (int r = 0; r < R; ++r) {
    PEREGRINE_UNROLL
    for (int n = 0; n < N; ++n) store(accumulator + r * padded + n * kLanes, sums[r][n]);
  }
}

// The same for the whole dimension.
template <class Math, int R>
void add_values(float* accumulator, int padded, const typename Math::Operand* weights, int64_t stride,
                const typename Math::Operand* values, int begin, int end) {
  if (begin >= end) return;
  int d = 0;
  for (; d + 4 * kLanes <= padded; d += 4 * kLanes) {
    add_block<Math, R, 4>(accumulator + d, padded, weights, stride, values + d, begin, end);
  }
  if (d + 2 * kLanes <= padded) {
    add_block<Math, R, 2>(accumulator + d, padded, weights, stride, values + d, begin, end);
    d += 2 * kLanes;
  }
  if (d < padded) add_block<Math, R, 1>(accumulator + d, padded, weights, stride, values + d, begin, end);
}

// One row over the units [begin, end), of which the first and the last may hold keys that it does not see: these are
// taken for zeros, for they need not be finite.
template <class Math>
void add_edge(float* accumulator, int padded, const RowWeights<Math>& row, const typename Math::Operand* values,
              int begin, int end) {
  for (int u = begin; u < end; ++u) {
    const int key = u * Math::kPack;
    const bool first = key >= row.first, second = key + Math::kPack <= row.last;
    const typename Math::Lanes weight = Math::broadcast(row.units + u);
    for (int d = 0; d < padded; d += kLanes) {
      const typename Math::Lanes value = Math::keep(Math::load_operands(values + u * padded + d), first, second);
      store(accumulator + d, Math::multiply_add(load(accumulator + d), weight, value));
    }
  }
}

}  // namespace
