// Attention of a block of query rows over paged keys, with an online softmax (Milakov and Gimelshein 2018; Dao et al.
// 2022). Bits are the same whatever rows are computed together:
//   a score is summed over the head's dimension in lanes, the lanes by a fixed tree;
//   weights are summed per lane of the tile, tiles in order of position, splits in order of position;
//   values are added key by key in order of position, and keys that a row may not see are not touched for it.
#pragma once

#include "kernels.h"

#if defined(__clang__)
#define PEREGRINE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define PEREGRINE_UNROLL _Pragma("GCC unroll 8")
#endif

namespace {

using peregrine::AttendRows;
using peregrine::AttendScratch;
using peregrine::kTile;
using peregrine::PagedLayout;
using peregrine::PagedRows;
using peregrine::SoftmaxState;

constexpr float kNegativeInfinity = -__builtin_inff();

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// A tile of keys and values as the inner loops read it: row j starts offsets[j] elements behind the bases.
template <class Element>
struct TileRows {
  const Element* keys;
  const Element* values;
  const int64_t* offsets;
  const int64_t* ahead;  // rows to fetch meanwhile, as many; or null
};

template <class Element>
inline void prefetch_row(const Element* row, int dim) {
  const char* bytes = reinterpret_cast<const char*>(row);
  for (size_t i = 0; i < dim * sizeof(Element); i += 64) __builtin_prefetch(bytes + i, 0, 2);
}

// scores[r][j] <- queries[r] . keys[j] for j in [begin, end), a multiple of 4 keys.
template <int R, class Element>
void score(const float* queries, int padded, const TileRows<Element>& tile, int begin, int end, float* scores) {
  const Element* base = tile.keys;
  const int64_t* offsets = tile.offsets;
  for (int j = begin; j < end; j += 4) {
    if (tile.ahead != nullptr) {
      for (int k = 0; k < 4; ++k) prefetch_row(base + tile.ahead[j + k], padded);
    }
    Vec sums[R][4];
    PEREGRINE_UNROLL
    for (int r = 0; r < R; ++r) sums[r][0] = sums[r][1] = sums[r][2] = sums[r][3] = splat(0.0f);
    const Element* key[4] = {base + offsets[j], base + offsets[j + 1], base + offsets[j + 2], base + offsets[j + 3]};
    for (int d = 0; d < padded; d += kLanes) {
      Vec query[R];
      PEREGRINE_UNROLL
      for (int r = 0; r < R; ++r) query[r] = load(queries + r * padded + d);
      PEREGRINE_UNROLL
      for (int k = 0; k < 4; ++k) {
        const Vec x = load(key[k] + d);
        PEREGRINE_UNROLL
        for (int r = 0; r < R; ++r) sums[r][k] = fma(query[r], x, sums[r][k]);
      }
    }
    PEREGRINE_UNROLL
    for (int r = 0; r < R; ++r) store_sums(scores + r * kTile + j, sums[r][0], sums[r][1], sums[r][2], sums[r][3]);
  }
}

// accumulator[r] += weights[r][j] * values[j] for j in [begin, end), over N vectors of the dimension.
template <int R, int N, class Element>
void add_values(float* accumulator, int padded, const float* weights, const TileRows<Element>& tile, int column,
                int begin, int end) {
  const Element* base = tile.values + column;
  const int64_t* offsets = tile.offsets;
  accumulator += column;
  Vec sums[R][N];
  PEREGRINE_UNROLL
  for (int r = 0; r < R; ++r) {
    PEREGRINE_UNROLL
    for (int n = 0; n < N; ++n) sums[r][n] = load(accumulator + r * padded + n * kLanes);
  }
  for (int j = begin; j < end; ++j) {
    const Element* value = base + offsets[j];
    if (tile.ahead != nullptr) prefetch_row(base + tile.ahead[j], N * kLanes);
    Vec weight[R];
    PEREGRINE_UNROLL
    for (int r = 0; r < R; ++r) weight[r] = splat(weights[r * kTile + j]);
    PEREGRINE_UNROLL
    for (int n = 0; n < N; ++n) {
      const Vec x = load(value + n * kLanes);
      PEREGRINE_UNROLL
      for (int r = 0; r < R; ++r) sums[r][n] = fma(weight[r], x, sums[r][n]);
    }
  }
  PEREGRINE_UNROLL
  for (int r = 0; r < R; ++r) {
    PEREGRINE_UNROLL
    for (int n = 0; n < N; ++n) store(accumulator + r * padded + n * kLanes, sums[r][n]);
  }
}

template <int R, class Element>
void add_all_values(float* accumulator, int padded, const float* weights, const TileRows<Element>& tile, int begin,
                    int end) {
  if (begin >= end) return;
  int d = 0;
  for (; d + 4 * kLanes <= padded; d += 4 * kLanes) {
    add_values<R, 4>(accumulator, padded, weights, tile, d, begin, end);
  }
  switch ((padded - d) / kLanes) {
    case 3: return add_values<R, 3>(accumulator, padded, weights, tile, d, begin, end);
    case 2: return add_values<R, 2>(accumulator, padded, weights, tile, d, begin, end);
    case 1: return add_values<R, 1>(accumulator, padded, weights, tile, d, begin, end);
    default: return;
  }
}

// Turns the row's scores of keys [first, last) into weights relative to the new maximum and updates the row's state.
void softmax_row(float* scores, int first, int last, float softcap, const SoftmaxState& state, int row, int padded) {
  const int begin = first / kLanes * kLanes, end = round_up(last, kLanes);
  for (int j = begin; j < first; ++j) scores[j] = kNegativeInfinity;
  for (int j = last; j < end; ++j) scores[j] = kNegativeInfinity;
  if (softcap != 0.0f) {
    const Vec inverse = splat(1.0f / softcap), cap = splat(softcap * kLog2E);
    for (int j = begin; j < end; j += kLanes) {
      store(scores + j, mul(cap, tanh_of(mul(load(scores + j), inverse))));
    }
    for (int j = begin; j < first; ++j) scores[j] = kNegativeInfinity;
    for (int j = last; j < end; ++j) scores[j] = kNegativeInfinity;
  }
  Vec highest = splat(state.max[row]);
  for (int j = begin; j < end; j += kLanes) highest = max(highest, load(scores + j));
  const float maximum = max_lanes(highest);
  Vec sum = splat(0.0f);
  for (int j = begin; j < end; j += kLanes) {
    const Vec weight = exp2_of(sub(load(scores + j), splat(maximum)));
    store(scores + j, weight);
    sum = add(sum, weight);
  }
  if (state.max[row] != maximum) {
    const float rescale = exp2_of(state.max[row] - maximum);
    state.sum[row] *= rescale;
    state.max[row] = maximum;
    float* accumulator = state.accumulator + static_cast<int64_t>(row) * padded;
    for (int d = 0; d < padded; d += kLanes) store(accumulator + d, mul(load(accumulator + d), splat(rescale)));
  }
  state.sum[row] += sum_lanes(sum);
}

// R rows from `row` on against one tile that starts at position `start`.
template <int R, class Element>
void attend_group(const AttendRows& rows, int row, int64_t start, const TileRows<Element>& tile, float* scores,
                  const SoftmaxState& state) {
  int first[R], last[R];
  int lowest = kTile, highest = 0, common_first = 0, common_last = kTile;
  for (int r = 0; r < R; ++r) {
    first[r] = static_cast<int>(larger(rows.first[row + r] - start, 0));
    last[r] = static_cast<int>(smaller(rows.last[row + r] - start, kTile));
    if (first[r] >= last[r]) first[r] = last[r] = 0;
    if (first[r] > common_first) common_first = first[r];
    if (last[r] < common_last) common_last = last[r];
    if (first[r] == last[r]) continue;
    if (first[r] < lowest) lowest = first[r];
    if (last[r] > highest) highest = last[r];
  }
  if (lowest >= highest) return;
  const int padded = rows.padded_dim;
  score<R>(rows.queries + static_cast<int64_t>(row) * padded, padded, tile, lowest / 4 * 4, round_up(highest, 4),
           scores);
  for (int r = 0; r < R; ++r) {
    if (first[r] < last[r]) {
      softmax_row(scores + r * kTile, first[r], last[r], rows.softcap, state, row + r, padded);
    }
  }
  // Keys that all rows see are added together, the others row by row, each row's in order of position.
  float* accumulator = state.accumulator + static_cast<int64_t>(row) * padded;
  if (common_first >= common_last) common_first = common_last = kTile;
  for (int r = 0; r < R; ++r) {
    const int end = static_cast<int>(smaller(common_first, last[r]));
    add_all_values<1>(accumulator + r * padded, padded, scores + r * kTile, tile, first[r], end);
  }
  add_all_values<R>(accumulator, padded, scores, tile, common_first, common_last);
  for (int r = 0; r < R; ++r) {
    const int begin = static_cast<int>(larger(common_last, first[r]));
    add_all_values<1>(accumulator + r * padded, padded, scores + r * kTile, tile, begin, last[r]);
  }
}

template <class Element>
void attend_tile(const AttendRows& rows, int64_t start, TileRows<Element> tile, float* scores,
                 const SoftmaxState& state) {
  for (int row = 0; row < rows.rows; row += kRowGroup, tile.ahead = nullptr) {
    switch (smaller(rows.rows - row, kRowGroup)) {
#if PEREGRINE_ROW_GROUP > 3
      case 6: attend_group<6>(rows, row, start, tile, scores, state); break;
      case 5: attend_group<5>(rows, row, start, tile, scores, state); break;
      case 4: attend_group<4>(rows, row, start, tile, scores, state); break;
#endif
      case 3: attend_group<3>(rows, row, start, tile, scores, state); break;
      case 2: attend_group<2>(rows, row, start, tile, scores, state); break;
      default: attend_group<1>(rows, row, start, tile, scores, state); break;
    }
  }
}

// offsets[j] <- where the row of key start + j lies, for the tile's keys in [begin, end). The other slots repeat a
// valid row: some are read along with their neighbours, their scores are not used.
void locate(const PagedLayout& layout, int64_t start, int64_t begin, int64_t end, int64_t* offsets) {
  int64_t position = begin;
  while (position < end) {
    const int64_t block = position / layout.block_size, slot = position - block * layout.block_size;
    const int64_t stop = smaller(end, position + layout.block_size - slot);
    int64_t offset = layout.table[block] * layout.block_stride + slot * layout.dim;
    for (; position < stop; ++position, offset += layout.dim) offsets[position - start] = offset;
  }
  for (int64_t j = 0; j < begin - start; ++j) offsets[j] = offsets[begin - start];
  for (int64_t j = end - start; j < kTile; ++j) offsets[j] = offsets[end - start - 1];
}

// Copies the tile's rows [begin, end) as padded floats, row j of the tile to row j.
template <class Element>
void unpack(const Element* base, const int64_t* offsets, int begin, int end, int dim, int padded, float* output) {
  for (int j = begin; j < end; ++j) {
    float* row = output + static_cast<int64_t>(j) * padded;
    convert(base + offsets[j], row, static_cast<size_t>(dim));
    for (int d = dim; d < padded; ++d) row[d] = 0.0f;
  }
}

template <class Element>
void attend_pages(const AttendRows& rows, const PagedLayout& layout, const Element* keys, const Element* values,
                  int64_t begin, int64_t end, const AttendScratch& scratch, const SoftmaxState& state) {
  const int padded = rows.padded_dim;
  const bool copy = layout.dim != padded || (sizeof(Element) != sizeof(float) && rows.rows > kRowGroup);
  int64_t* offsets = scratch.offsets;
  int64_t* ahead = scratch.offsets + kTile;
  int64_t start = begin / kTile * kTile;
  locate(layout, start, begin, smaller(end, start + kTile), offsets);
  if (!copy) {
    for (int j = 0; j < kTile; ++j) prefetch_row(keys + offsets[j], padded);
    for (int j = 0; j < kTile; ++j) prefetch_row(values + offsets[j], padded);
  }
  for (; start < end; start += kTile) {
    const int64_t first = larger(begin, start), last = smaller(end, start + kTile);
    const bool more = last < end;
    if (more) locate(layout, last, last, smaller(end, last + kTile), ahead);
    if (copy) {
      const int from = static_cast<int>(first - start) / 4 * 4, to = round_up(static_cast<int>(last - start), 4);
      unpack(keys, offsets, from, to, layout.dim, padded, scratch.keys);
      unpack(values, offsets, from, to, layout.dim, padded, scratch.values);
      for (int j = from; j < to; ++j) offsets[j] = static_cast<int64_t>(j) * padded;
      attend_tile<float>(rows, start, {scratch.keys, scratch.values, offsets, nullptr}, scratch.scores, state);
    } else {
      attend_tile<Element>(rows, start, {keys, values, offsets, more ? ahead : nullptr}, scratch.scores, state);
    }
    int64_t* spent = offsets;
    offsets = ahead;
    ahead = spent;
  }
}

void attend(const AttendRows& rows, const PagedLayout& layout, const PagedRows& keys, const PagedRows& values,
            int64_t begin, int64_t end, const AttendScratch& scratch, const SoftmaxState& state) {
  for (int r = 0; r < rows.rows; ++r) {
    state.max[r] = kNegativeInfinity;
    state.sum[r] = 0.0f;
  }
  const int64_t count = static_cast<int64_t>(rows.rows) * rows.padded_dim;
  for (int64_t i = 0; i < count; i += kLanes) store(state.accumulator + i, splat(0.0f));
  if (keys.half) {
    attend_pages(rows, layout, static_cast<const uint16_t*>(keys.base), static_cast<const uint16_t*>(values.base),
                 begin, end, scratch, state);
  } else {
    attend_pages(rows, layout, static_cast<const float*>(keys.base), static_cast<const float*>(values.base), begin, end,
                 scratch, state);
  }
}

void merge(int rows, int padded, const SoftmaxState& part, const SoftmaxState& total) {
  for (int r = 0; r < rows; ++r) {
    if (part.sum[r] == 0.0f) continue;
    float* to = total.accumulator + static_cast<int64_t>(r) * padded;
    const float* from = part.accumulator + static_cast<int64_t>(r) * padded;
    if (total.sum[r] == 0.0f) {
      // Copied, not added to nothing: that would turn -0 into +0 for rows whose window starts in a later split.
      total.max[r] = part.max[r];
      total.sum[r] = part.sum[r];
      for (int d = 0; d < padded; d += kLanes) store(to + d, load(from + d));
      continue;
    }
    const float maximum = total.max[r] < part.max[r] ? part.max[r] : total.max[r];
    const float keep = exp2_of(total.max[r] - maximum), take = exp2_of(part.max[r] - maximum);
    total.max[r] = maximum;
    total.sum[r] = total.sum[r] * keep + part.sum[r] * take;
    for (int d = 0; d < padded; d += kLanes) {
      store(to + d, fma(load(from + d), splat(take), mul(load(to + d), splat(keep))));
    }
  }
}

void finish(const float* accumulator, float sum, int dim, float* output) {
  const float inverse = 1.0f / sum;
  for (int d = 0; d < dim; ++d) output[d] = accumulator[d] * inverse;
}

}  // namespace
