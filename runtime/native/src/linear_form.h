// How a quantised matrix [N, K] is stored, and the bytes of it.
//
// Tiles of 32 rows of the matrix, each a stretch of memory: the levels [K / 4][32 rows][4 columns] as unsigned bytes, or
// for 4 bits two such steps of 128 in one, the first in the low halves; then for each group of columns 32 scales and, if
// the form has them, 32 offsets, in binary16 or float; zeros up to a multiple of 64. Rows past N are zero.
//
// A weight is scale * (level - 2^(bits - 1)) without offsets, and scale * level + offset with them.
#pragma once

#include <cstdint>

struct OrtKernelInfo;
struct OrtStatus;

namespace peregrine {

struct Tensor;

constexpr int kTileRows = 32;

// NOTE: plain fields and no member functions: kernels of any instruction set read it.
struct LinearForm {
  int64_t rows = 0;     // N
  int64_t columns = 0;  // K, a multiple of group
  int64_t group = 32;   // 32 or 64
  int64_t bits = 8;     // 4 or 8
  bool offsets = false;
  bool wide = false;  // float scales and offsets

  // Of the above.
  int64_t tiles, groups;
  int64_t level_bytes;  // of a tile
  int64_t scale_bytes;  // of the scales and offsets of a group
  int64_t tile_bytes;
  int32_t centre;  // level of zero
};

// From the attributes N, K, group, bits (8), offsets (0) and scale_bytes (2) of the op `op`.
OrtStatus* read_form(const OrtKernelInfo* info, const char* op, LinearForm* form);

// That `weight` is uint8 [tiles, tile_bytes].
OrtStatus* check_weight(const LinearForm& form, const char* op, const Tensor& weight);

}  // namespace peregrine
