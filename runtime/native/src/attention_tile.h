// A tile of paged keys and values, laid out for the inner loops: keys across the lanes, values along them.
#pragma once

#include "attention_arithmetic.h"
#include "row_kernels.h"

namespace {

using peregrine::AttendScratch;
using peregrine::KeyRange;
using peregrine::kTile;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// The rows of a tile before they are packed: row j starts offsets[j] elements behind the bases.
template <class Element>
struct TileRows {
  const Element* keys;
  const Element* values;
  const int64_t* offsets;
};

// A packed tile. Unit u of a head or of the keys is what one operand holds: kPack of them.
template <class Math>
struct PackedTile {
  const typename Math::Operand* keys;    // [units of the head][kTile]
  const typename Math::Operand* values;  // [units of the tile][padded dim]
};

// The start of the tile of `position`.
inline int64_t tile_start(int64_t position) { return position / kTile * kTile; }

// offsets[j] <- where the row of key `start + j` lies, for the range's keys in the tile at `start`. The other slots
// repeat a valid row: some are packed along with their neighbours, and are not used.
inline void locate(const KeyRange& range, int64_t start, int64_t* offsets) {
  const int64_t begin = larger(range.begin, start), end = smaller(range.end, start + kTile);
  int64_t position = begin;
  while (position < end) {
    const int64_t block = position / range.block_size, slot = position - block * range.block_size;
    const int64_t stop = smaller(end, position + range.block_size - slot);
    int64_t offset = range.table[block] * range.block_stride + slot * range.dim;
    for (; position < stop; ++position, offset += range.dim) offsets[position - start] = offset;
  }
  for (int64_t j = 0; j < begin - start; ++j) offsets[j] = offsets[begin - start];
  for (int64_t j = end - start; j < kTile; ++j) offsets[j] = offsets[end - start - 1];
}

template <class Element>
inline TileRows<Element> rows_of(const KeyRange& range, int head, const int64_t* offsets) {
  const int64_t skip = head * range.head_stride;
  return {static_cast<const Element*>(range.keys) + skip, static_cast<const Element*>(range.values) + skip, offsets};
}

// Brings the rows of a coming tile nearer, a few at a time: all at once they would wait for each other, and the
// arithmetic for them.
template <class Element>
class Fetcher {
 public:
  Fetcher() = default;
  Fetcher(const TileRows<Element>& tile, int dim) : tile_(tile), bytes_(dim * sizeof(Element)), next_(0) {}

  // The next `count` keys and their values.
  void fetch(int count) {
    const int stop = next_ + count < kTile ? next_ + count : kTile;
    for (; next_ < stop; ++next_) {
      const int64_t offset = tile_.offsets[next_];
      const char* key = reinterpret_cast<const char*>(tile_.keys + offset);
      const char* value = reinterpret_cast<const char*>(tile_.values + offset);
      for (size_t i = 0; i < bytes_; i += 64) {
        __builtin_prefetch(key + i, 0, 3);
        __builtin_prefetch(value + i, 0, 3);
      }
    }
  }

 private:
  TileRows<Element> tile_{};
  size_t bytes_ = 0;
  int next_ = kTile;  // nothing
};

// rows[i] <- row j + i of the tile, kLanes of them; copied and filled up with zeros where `width` is more than `dim`.
template <class Element>
inline void find_rows(const Element* base, const int64_t* offsets, int dim, int width, void* staging,
                      const Element** rows) {
  for (int i = 0; i < kLanes; ++i) {
    const Element* row = base + offsets[i];
    if (dim == width) {
      rows[i] = row;
      continue;
    }
    Element* copy = static_cast<Element*>(staging) + static_cast<int64_t>(i) * width;
    __builtin_memcpy(copy, row, dim * sizeof(Element));
    __builtin_memset(copy + dim, 0, (width - dim) * sizeof(Element));
    rows[i] = copy;
  }
}

template <class Math>
void pack_keys(const typename Math::Element* const* rows, int width, typename Math::Operand* keys) {
  for (int d = 0; d < width; d += kLanes * Math::kPack, keys += kLanes * kTile) {
    Vec block[kLanes];
    PEREGRINE_UNROLL
    for (int i = 0; i < kLanes; ++i) block[i] = Math::load_row(rows[i] + d);
    transpose(block);
    PEREGRINE_UNROLL
    for (int i = 0; i < kLanes; ++i) store(reinterpret_cast<float*>(keys + i * kTile), block[i]);
  }
}

template <class Math>
void pack_values(const typename Math::Element* const* rows, int padded, typename Math::Operand* values) {
  for (int i = 0; i < kLanes; i += Math::kPack, values += padded) {
    for (int d = 0; d < padded; d += kLanes) Math::zip_rows(rows + i, d, values + d);
  }
}

// Packs the tile's keys and values in [from, to), multiples of kLanes, and fetches rows of the next meanwhile.
template <class Math>
PackedTile<Math> pack_tile(const TileRows<typename Math::Element>& tile, Fetcher<typename Math::Element>& fetcher,
                           int from, int to, int dim, int padded, const AttendScratch& scratch) {
  using Operand = typename Math::Operand;
  const int width = round_up(dim, kLanes * Math::kPack);
  auto* keys = static_cast<Operand*>(scratch.keys);
  auto* values = static_cast<Operand*>(scratch.values);
  const typename Math::Element* rows[kLanes];
  for (int j = from; j < to; j += kLanes) {
    fetcher.fetch(kLanes / 4);
    find_rows(tile.keys, tile.offsets + j, dim, width, scratch.staging, rows);
    pack_keys<Math>(rows, width, keys + j);
    fetcher.fetch(kLanes / 4);
    find_rows(tile.values, tile.offsets + j, dim, width, scratch.staging, rows);
    pack_values<Math>(rows, padded, values + static_cast<int64_t>(j / Math::kPack) * padded);
  }
  return {keys, values};
}

}  // namespace
