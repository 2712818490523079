// The two matrix products of attention, in blocks that stay in registers: queries with keys, weights with values.
// A score is summed unit by unit of the head, a value unit by unit of the keys, in order of position: no sum depends on
// which rows or how many are computed together.
#pragma once

#include "attention_tile.h"

namespace {

// scores[r][j] <- queries[r] . keys[j] for G groups of keys.
template <class Math, int R, int G, class Fetch>
void score_block(const typename Math::Operand* queries, int64_t stride, int units,
                 const typename Math::Element* const* groups, Fetch& fetcher, float* scores) {
  constexpr int kVectors = kGroup / kLanes;
  Vec sums[R][G * kVectors];
  PEREGRINE_UNROLL
  for (int r = 0; r < R; ++r) {
    PEREGRINE_UNROLL
    for (int v = 0; v < G * kVectors; ++v) sums[r][v] = splat(0.0f);
  }
  const typename Math::Element* keys[G];
  for (int g = 0; g < G; ++g) keys[g] = groups[g];
  for (int u = 0; u < units; ++u) {
    fetcher.fetch();
    typename Math::Lanes query[R];
    PEREGRINE_UNROLL
    for (int r = 0; r < R; ++r) query[r] = Math::broadcast(queries + r * stride + u);
    PEREGRINE_UNROLL
    for (int v = 0; v < G * kVectors; ++v) {
      const int64_t unit = u * kGroup + v % kVectors * kLanes;
      const typename Math::Lanes key = Math::load_units(keys[v / kVectors] + unit * Math::kPack);
      PEREGRINE_UNROLL
      for (int r = 0; r < R; ++r) sums[r][v] = Math::multiply_add(sums[r][v], query[r], key);
    }
  }
  PEREGRINE_UNROLL
  for (int r = 0; r < R; ++r) {
    PEREGRINE_UNROLL
    for (int v = 0; v < G * kVectors; ++v) store(scores + r * kTile + v * kLanes, sums[r][v]);
  }
}

// The same for the groups [begin, end) of a tile, four vectors of keys at a time where there are as many.
template <class Math, int R, class Fetch>
void score(const typename Math::Operand* queries, int64_t stride, int units, const Tile<Math>& tile, int begin, int end,
           Fetch& fetcher, float* scores) {
  constexpr int kMost = 4 * kLanes / kGroup;
  int g = begin;
  for (; g + kMost <= end; g += kMost) {
    score_block<Math, R, kMost>(queries, stride, units, tile.keys + g, fetcher, scores + g * kGroup);
  }
  for (; g < end; ++g) score_block<Math, R, 1>(queries, stride, units, tile.keys + g, fetcher, scores + g * kGroup);
}

// The weights of one row and the keys [first, last) that it sees.
template <class Math>
struct RowWeights {
  const typename Math::Operand* units;  // [units of the tile]
  int first, last;
};

// accumulator[r] += weights[r] . values over the units [begin, end), for N vectors of the dimension.
template <class Math, int R, int N, class Fetch>
void add_block(float* accumulator, int padded, const typename Math::Operand* weights, int64_t stride,
               const Tile<Math>& tile, int column, int begin, int end, Fetch& fetcher) {
  Vec sums[R][N];
  PEREGRINE_UNROLL
  for (int r = 0; r < R; ++r) {
    PEREGRINE_UNROLL
    for (int n = 0; n < N; ++n) sums[r][n] = load(accumulator + r * padded + column + n * kLanes);
  }
  for (int u = begin; u < end; ++u) {
    fetcher.fetch();
    typename Math::Lanes weight[R];
    PEREGRINE_UNROLL
    for (int r = 0; r < R; ++r) weight[r] = Math::broadcast(weights + r * stride + u);
    const typename Math::Element* row = tile.value_row(u, padded) + column * Math::kPack;
    PEREGRINE_UNROLL
    for (int n = 0; n < N; ++n) {
      const typename Math::Lanes value = Math::load_units(row + n * kLanes * Math::kPack);
      PEREGRINE_UNROLL
      for (int r = 0; r < R; ++r) sums[r][n] = Math::multiply_add(sums[r][n], weight[r], value);
    }
  }
  PEREGRINE_UNROLL
  for (int r = 0; r < R; ++r) {
    PEREGRINE_UNROLL
    for (int n = 0; n < N; ++n) store(accumulator + r * padded + column + n * kLanes, sums[r][n]);
  }
}

// The same for the whole dimension.
template <class Math, int R, class Fetch>
void add_values(float* accumulator, int padded, const typename Math::Operand* weights, int64_t stride,
                const Tile<Math>& tile, int begin, int end, Fetch& fetcher) {
  if (begin >= end) return;
  int d = 0;
  for (; d + 4 * kLanes <= padded; d += 4 * kLanes) {
    add_block<Math, R, 4>(accumulator, padded, weights, stride, tile, d, begin, end, fetcher);
  }
  for (; d < padded; d += kLanes) {
    add_block<Math, R, 1>(accumulator, padded, weights, stride, tile, d, begin, end, fetcher);
  }
}

// One row over the units [begin, end), of which the first and the last may hold keys that it does not see: these are
// taken for zeros, for they need not be finite.
template <class Math>
void add_edge(float* accumulator, int padded, const RowWeights<Math>& row, const Tile<Math>& tile, int begin, int end) {
  for (int u = begin; u < end; ++u) {
    const int key = u * Math::kPack;
    const bool first = key >= row.first, second = key + Math::kPack <= row.last;
    const typename Math::Lanes weight = Math::broadcast(row.units + u);
    const typename Math::Element* values = tile.value_row(u, padded);
    for (int d = 0; d < padded; d += kLanes) {
      const typename Math::Lanes value = Math::keep(Math::load_units(values + d * Math::kPack), first, second);
      store(accumulator + d, Math::multiply_add(load(accumulator + d), weight, value));
    }
  }
}

}  // namespace
