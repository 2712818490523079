// A tile of paged keys and values as the inner loops want it: groups of kGroup positions, keys across the lanes and
// values along them. A packed cache has them ready; the rows of any other are arranged first.
#pragma once

#include "attention_arithmetic.h"
#include "row_kernels.h"

namespace {

using peregrine::AttendScratch;
using peregrine::KeyRange;
using peregrine::kGroup;
using peregrine::kTile;

constexpr int kGroups = kTile / kGroup;
static_assert(kGroup % kLanes == 0, "a group fills whole vectors");

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// The groups of a tile that hold keys of the range, and where in a head's part of the cache each starts.
struct TilePlace {
  int64_t start = 0;  // position
  int begin = 0, end = 0;
  int64_t offsets[kGroups];

  TilePlace() = default;
  TilePlace(const KeyRange& range, int64_t position) : start(position / kTile * kTile) {
    begin = static_cast<int>(larger(range.begin - start, 0)) / kGroup;
    end = round_up(static_cast<int>(smaller(range.end - start, kTile)), kGroup) / kGroup;
    if (!range.packed) return;
    const auto block_size = static_cast<uint32_t>(range.block_size);
    for (int g = begin; g < end; ++g) {
      const auto first = static_cast<uint32_t>(start + g * kGroup);
      offsets[g] = range.table[first / block_size] * range.block_stride + first % block_size * range.dim;
    }
  }
};

// The groups of a tile of one head: keys [units of the head][kGroup], values [units of the group][padded dim].
template <class Math>
struct Tile {
  const typename Math::Element* keys[kGroups];
  const typename Math::Element* values[kGroups];

  const typename Math::Element* value_row(int unit, int padded) const {
    constexpr int kUnits = kGroup / Math::kPack;
    return values[unit / kUnits] + static_cast<int64_t>(unit % kUnits) * padded * Math::kPack;
  }
};

template <class Math>
Tile<Math> packed_tile(const KeyRange& range, const TilePlace& place, int head) {
  using Element = typename Math::Element;
  const int64_t skip = head * range.head_stride;
  Tile<Math> tile{};
  for (int g = place.begin; g < place.end; ++g) {
    tile.keys[g] = static_cast<const Element*>(range.keys) + skip + place.offsets[g];
    tile.values[g] = static_cast<const Element*>(range.values) + skip + place.offsets[g];
  }
  return tile;
}

// The same from a cache of plain rows, in memory of the tile's own. Places of keys that are not in the range are left
// as they are.
template <class Math>
Tile<Math> arranged_tile(const KeyRange& range, const TilePlace& place, int head, int padded,
                         const AttendScratch& scratch) {
  using Element = typename Math::Element;
  constexpr int kPack = Math::kPack;
  const int width = round_up(range.dim, kPack);
  Tile<Math> tile{};
  for (int g = place.begin; g < place.end; ++g) {
    Element* keys = static_cast<Element*>(scratch.keys) + g * kGroup * width;
    Element* values = static_cast<Element*>(scratch.values) + g * kGroup * padded;
    tile.keys[g] = keys;
    tile.values[g] = values;
    for (int j = 0; j < kGroup; ++j) {
      const int64_t position = place.start + g * kGroup + j;
      if (position < range.begin || position >= range.end) continue;
      const int64_t row = range.table[position / range.block_size] * range.block_stride + head * range.head_stride +
                          position % range.block_size * range.dim;
      const Element* key = static_cast<const Element*>(range.keys) + row;
      const Element* value = static_cast<const Element*>(range.values) + row;
      for (int d = 0; d < range.dim; ++d) {
        keys[(d / kPack * kGroup + j) * kPack + d % kPack] = key[d];
        values[(j / kPack * padded + d) * kPack + j % kPack] = value[d];
      }
      for (int d = range.dim; d < width; ++d) keys[(d / kPack * kGroup + j) * kPack + d % kPack] = Element{};
    }
  }
  return tile;
}

// Brings a coming tile of all heads nearer, in the order in which it lies and some lines at a time between the products:
// many at once would wait for each other, and the arithmetic for them.
class Fetcher {
 public:
  Fetcher() = default;
  Fetcher(const KeyRange& range, const TilePlace& place, size_t element_bytes)
      : all_keys_(static_cast<const char*>(range.keys)),
        all_values_(static_cast<const char*>(range.values)),
        head_bytes_(range.head_stride * element_bytes),
        part_bytes_(kGroup * range.dim * element_bytes),
        at_(part_bytes_),
        group_(place.begin),
        end_(place.end),
        heads_(range.heads) {
    for (int g = group_; g < end_; ++g) offsets_[g] = place.offsets[g] * element_bytes;
  }

  // The next two lines of keys and of values.
  void fetch() {
    if (at_ == part_bytes_ && !next_part()) return;
    for (int64_t line = 0; line < 2 * kLine; line += kLine) {
      __builtin_prefetch(keys_ + at_ + line, 0, 3);
      __builtin_prefetch(values_ + at_ + line, 0, 3);
    }
    at_ += 2 * kLine;
  }

 private:
  static constexpr int kLine = 64;

  // Goes on to what one head has of a group.
  bool next_part() {
    if (group_ >= end_) return false;
    const int64_t from = offsets_[group_] + head_ * head_bytes_;
    keys_ = all_keys_ + from;
    values_ = all_values_ + from;
    at_ = 0;
    if (++head_ == heads_) {
      head_ = 0;
      ++group_;
    }
    return true;
  }

  const char *all_keys_ = nullptr, *all_values_ = nullptr;
  const char *keys_ = nullptr, *values_ = nullptr;
  int64_t offsets_[kGroups];
  int64_t head_bytes_ = 0, part_bytes_ = 0, at_ = 0;  // at: of the part
  int group_ = 0, end_ = 0, head_ = 0, heads_ = 0;
};

// For rows that find their tile where others have just read it.
struct NoFetcher {
  void fetch() const {}
};

}  // namespace
