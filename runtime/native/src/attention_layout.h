// Where the elements of a position lie in a KV head's part of a cache block: see KeyRange.
#pragma once

#include "kernels.h"

namespace peregrine {

class CacheLayout {
 public:
  CacheLayout(CacheType type, int64_t block_size, int64_t dim)
      : packed_(block_size % kGroup == 0 && dim % kGroup == 0),
        pair_(packed_ && type == CacheType::kBfloat ? 2 : 1),
        dim_(dim) {}

  bool packed() const { return packed_; }

  // Write the elements of the position in `slot` into the part that starts at `to`.
  template <class Element>
  void write_key(const Element* row, int64_t slot, Element* to) const {
    const int64_t group = slot / kGroup * kGroup * dim_, lane = slot % kGroup;
    if (!packed_) {
      write_units<Element, 1>(row, 1, to + slot * dim_);
    } else if (pair_ == 1) {
      write_units<Element, 1>(row, kGroup, to + group + lane);
    } else {
      write_units<Element, 2>(row, kGroup, to + group + 2 * lane);
    }
  }
  template <class Element>
  void write_value(const Element* row, int64_t slot, Element* to) const {
    write_units<Element, 1>(row, pair_, to + slot / pair_ * pair_ * dim_ + slot % pair_);
  }

 private:
  // Units of kUnit elements, `step` units from one to the next.
  template <class Element, int kUnit>
  void write_units(const Element* row, int64_t step, Element* to) const {
    for (int64_t d = 0; d < dim_; d += kUnit) {
      for (int i = 0; i < kUnit; ++i) to[d * step + i] = row[d + i];
    }
  }

  const bool packed_;
  const int64_t pair_, dim_;
};

}  // namespace peregrine
