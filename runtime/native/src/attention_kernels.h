// Attention of a block of query rows over paged keys (Dao et al. 2022). Bits are the same whatever rows are computed
// together:
//   scores and values are summed one key or pair of keys after the other, pairs counted from the start of the sequence;
//   weights are summed per lane of the tile, tiles in order of position, splits in order of position;
//   keys that a row may not see are not added for it.
#pragma once

#include "attention_products.h"
#include "attention_softmax.h"

namespace {

using peregrine::AttendRows;
using peregrine::CacheType;

// What the groups of rows of a KV head have in common.
template <class Math>
struct GroupWork {
  const AttendRows& rows;
  const typename Math::Operand* queries;  // [rows][units of the head]
  SoftmaxState state;
  float* sums;                      // [rows][kLanes]
  float* scores;                    // [row group][kTile]
  typename Math::Operand* weights;  // [row group][kTile / kPack]
};

template <class Math>
inline int64_t query_stride(int dim) {
  return round_up(dim, kLanes * Math::kPack) / Math::kPack;
}

// The keys of a tile that each of R rows sees.
template <int R>
struct Sight {
  int first[R], last[R];
  int lowest = kTile, highest = 0;  // of any row
  int begin = 0, end = kTile;       // of all rows

  Sight(const AttendRows& rows, int row, int64_t start) {
    for (int r = 0; r < R; ++r) {
      first[r] = static_cast<int>(larger(rows.first[row + r] - start, 0));
      last[r] = static_cast<int>(smaller(rows.last[row + r] - start, kTile));
      if (first[r] >= last[r]) first[r] = last[r] = 0;
      if (first[r] > begin) begin = first[r];
      if (last[r] < end) end = last[r];
      if (first[r] == last[r]) continue;
      if (first[r] < lowest) lowest = first[r];
      if (last[r] > highest) highest = last[r];
    }
  }
};

// R rows from `row` on against the tile that starts at position `start`.
template <class Math, int R, class Fetch>
void attend_group(const GroupWork<Math>& work, int row, int64_t start, const Tile<Math>& tile, Fetch& fetcher) {
  constexpr int kUnits = kTile / Math::kPack;
  const Sight<R> sight(work.rows, row, start);
  if (sight.lowest >= sight.highest) return;
  const int padded = work.rows.padded_dim, units = (work.rows.dim + Math::kPack - 1) / Math::kPack;
  const int64_t stride = query_stride<Math>(work.rows.dim);
  score<Math, R>(work.queries + row * stride, stride, units, tile, sight.lowest / kGroup,
                 round_up(sight.highest, kGroup) / kGroup, fetcher, work.scores);
  for (int r = 0; r < R; ++r) {
    if (sight.first[r] == sight.last[r]) continue;
    softmax_row<Math>(work.scores + r * kTile, sight.first[r], sight.last[r], work.rows.softcap, work.state,
                      work.sums, row + r, padded, work.weights + r * kUnits, fetcher);
  }
  // Units that all rows see are added together, the others row by row, each row's in order of position.
  int begin = (sight.begin + Math::kPack - 1) / Math::kPack, end = sight.end / Math::kPack;
  if (begin >= end) begin = end = kUnits;
  float* accumulator = work.state.accumulator + static_cast<int64_t>(row) * padded;
  for (int r = 0; r < R; ++r) {
    const RowWeights<Math> weights = {work.weights + r * kUnits, sight.first[r], sight.last[r]};
    const int stop = (sight.last[r] + Math::kPack - 1) / Math::kPack;
    add_edge<Math>(accumulator + r * padded, padded, weights, tile, sight.first[r] / Math::kPack,
                   begin < stop ? begin : stop);
  }
  add_values<Math, R>(accumulator, padded, work.weights, kUnits, tile, begin, end, fetcher);
  for (int r = 0; r < R; ++r) {
    const RowWeights<Math> weights = {work.weights + r * kUnits, sight.first[r], sight.last[r]};
    const int from = sight.first[r] / Math::kPack;
    add_edge<Math>(accumulator + r * padded, padded, weights, tile, end > from ? end : from,
                   (sight.last[r] + Math::kPack - 1) / Math::kPack);
  }
}

// At most kRowGroup rows.
template <class Math, class Fetch>
void attend_group(const GroupWork<Math>& work, int rows, int row, int64_t start, const Tile<Math>& tile,
                  Fetch& fetcher) {
  switch (rows) {
#if PEREGRINE_ROW_GROUP > 3
    case 6: attend_group<Math, 6>(work, row, start, tile, fetcher); break;
    case 5: attend_group<Math, 5>(work, row, start, tile, fetcher); break;
    case 4: attend_group<Math, 4>(work, row, start, tile, fetcher); break;
#endif
    case 3: attend_group<Math, 3>(work, row, start, tile, fetcher); break;
    case 2: attend_group<Math, 2>(work, row, start, tile, fetcher); break;
    default: attend_group<Math, 1>(work, row, start, tile, fetcher); break;
  }
}

// All rows of a head, of which the first ones fetch what comes next.
template <class Math>
void attend_tile(const GroupWork<Math>& work, int64_t start, const Tile<Math>& tile, Fetcher& fetcher) {
  NoFetcher none;
  for (int row = 0; row < work.rows.rows; row += kRowGroup) {
    const int rows = static_cast<int>(smaller(work.rows.rows - row, kRowGroup));
    if (row == 0) {
      attend_group(work, rows, row, start, tile, fetcher);
    } else {
      attend_group(work, rows, row, start, tile, none);
    }
  }
}

// Queries as operands.
template <class Math>
typename Math::Operand* pack_queries(const AttendRows& rows, void* memory) {
  constexpr int kStep = kLanes * Math::kPack;
  auto* packed = static_cast<typename Math::Operand*>(memory);
  const int64_t stride = query_stride<Math>(rows.dim);
  for (int r = 0; r < rows.heads * rows.rows; ++r) {
    const float* query = rows.queries + static_cast<int64_t>(r) * rows.padded_dim;
    for (int d = 0; d < rows.dim; d += kStep) {
      Vec step[Math::kPack];
      for (int i = 0; i < Math::kPack; ++i) {
        const int from = d + i * kLanes;
        step[i] = from < rows.padded_dim ? load(query + from) : splat(0.0f);
      }
      Math::pack(step, packed + r * stride + d / Math::kPack);
    }
  }
  return packed;
}

template <class Math>
void attend_pages(const AttendRows& rows, const KeyRange& range, const KeyRange* next, const AttendScratch& scratch,
                  const SoftmaxState& state) {
  const typename Math::Operand* queries = pack_queries<Math>(rows, scratch.queries);
  TilePlace place(range, range.begin), ahead;
  for (;; place = ahead) {
    const bool more = place.start + kTile < range.end;
    const KeyRange* coming = more ? &range : next;
    if (coming != nullptr) ahead = TilePlace(*coming, more ? place.start + kTile : coming->begin);
    Fetcher fetcher;
    if (coming != nullptr && coming->packed) fetcher = Fetcher(*coming, ahead, sizeof(typename Math::Element));
    for (int head = 0; head < rows.heads; ++head) {
      const int64_t row = static_cast<int64_t>(head) * rows.rows;
      const GroupWork<Math> work = {rows,
                                    queries + row * query_stride<Math>(rows.dim),
                                    {state.max + row, state.sum + row, state.accumulator + row * rows.padded_dim},
                                    scratch.sums + row * kLanes,
                                    scratch.scores,
                                    static_cast<typename Math::Operand*>(scratch.weights)};
      attend_tile<Math>(work, place.start,
                        range.packed ? packed_tile<Math>(range, place, head)
                                     : arranged_tile<Math>(range, place, head, rows.padded_dim, scratch),
                        fetcher);
    }
    if (!more) return;
  }
}

void attend(const AttendRows& rows, const KeyRange& range, const KeyRange* next, const AttendScratch& scratch,
            const SoftmaxState& state) {
  const int count = rows.heads * rows.rows;
  clear(state, scratch.sums, count, rows.padded_dim);
  switch (range.type) {
    case CacheType::kFloat: attend_pages<Floats<float>>(rows, range, next, scratch, state); break;
    case CacheType::kHalf: attend_pages<Floats<uint16_t>>(rows, range, next, scratch, state); break;
    case CacheType::kBfloat: attend_pages<Bfloats>(rows, range, next, scratch, state); break;
  }
  for (int r = 0; r < count; ++r) state.sum[r] = sum_lanes(load(scratch.sums + r * kLanes));
}

}  // namespace
