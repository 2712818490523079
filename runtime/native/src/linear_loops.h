// Quantisation of a row, and a tile for blocks of rows, on whatever vectors were included before.
#pragma once

#include "linear_kernels.h"

namespace {

using peregrine::kTileRows;
using peregrine::LinearForm;
using peregrine::QuantRows;
using peregrine::TileCall;

// Groups whose largest magnitude is below are zeros: the reciprocal of their scale would overflow.
constexpr float kSmallest = 1e-35f;
constexpr uint32_t kInfinity = 0x7f800000;

void quantise(const LinearForm& form, int bias, const float* x, const QuantRows& row) {
  const int group = static_cast<int>(form.group);
  for (int64_t g = 0; g < form.groups; ++g, x += group) {
    const uint32_t bits = peak_bits(x, group);
    float peak, inverse = 0.0f;
    __builtin_memcpy(&peak, &bits, sizeof peak);
    int8_t* values = row.values + g * group;
    int32_t sum = 0;
    if (bits < kInfinity && peak >= kSmallest) {
      inverse = 127.0f / peak;
      sum = round_group(x, inverse, group, values);
    } else {
      __builtin_memset(values, 0, static_cast<size_t>(group));
      peak = bits < kInfinity ? 0.0f : __builtin_nanf("");
    }
    row.scales[g] = peak / 127.0f;
    row.starts[g] = (bias - form.centre) * sum;
    row.sums[g] = row.scales[g] * static_cast<float>(sum);
  }
}

inline Ints four_values(const int8_t* values) {
  int32_t x;
  __builtin_memcpy(&x, values, sizeof x);
  return splat(x);
}

// What a block of rows reads: pointers to its first row.
struct Block {
  const int8_t* values;
  const float* scales;
  const int32_t* starts;
  const float* sums;
};

// sums[r][v] += the products of a group, for Rows rows and kVectors vectors of columns.
template <int Bits, int Rows>
inline void dot_group(Ints (&sums)[Rows][kVectors], const uint8_t* levels, const int8_t* x, int64_t columns, int group) {
  constexpr int kStep = kTileRows * 4, kPart = kColumns * 4;  // bytes: of four columns, and of a vector of them
  // GCC alone would leave loops of 16 steps rolled, with the sums in memory.
#if !defined(__clang__)
#pragma GCC unroll 16
#endif
  for (int k = 0; k < group; k += 4 * 8 / Bits) {
    Ints part[kVectors];
    for (int v = 0; v < kVectors; ++v) part[v] = load_levels(levels + v * kPart);
    for (int r = 0; r < Rows; ++r) {
      const Ints values = four_values(x + r * columns + k);
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = Bits == 8 ? dot8(sums[r][v], part[v], values) : dot4(sums[r][v], low_half(part[v]), values);
      }
    }
    if (Bits == 4) {
      for (int r = 0; r < Rows; ++r) {
        const Ints values = four_values(x + r * columns + k + 4);
        for (int v = 0; v < kVectors; ++v) sums[r][v] = dot4(sums[r][v], high_half(part[v]), values);
      }
    }
    levels += kStep;
  }
}

template <class Scale>
inline Floats load_scale(const uint8_t* scales, int index) {
  return load(reinterpret_cast<const Scale*>(scales) + index);
}

// One tile for Rows rows: columns [column, column + kVectors * kColumns).
template <int Bits, int Rows, int Group, class Scale>
void multiply_part(const TileCall& call, const Block& x, int column, const uint8_t* ahead, int64_t lines,
                   float* const (&outputs)[kVectors]) {
  const LinearForm& form = *call.form;
  const int64_t columns = form.columns, groups = columns / Group;
  const uint8_t* levels = call.tile + column * 4;
  const uint8_t* scales = call.tile + form.level_bytes;
  Floats totals[Rows][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    for (int r = 0; r < Rows; ++r) totals[r][v] = load(call.first + column + v * kColumns);
  }
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t line = 0; line < lines; ++line, ahead += 64) prefetch(ahead);
    Ints sums[Rows][kVectors];
    for (int r = 0; r < Rows; ++r) {
      for (int v = 0; v < kVectors; ++v) sums[r][v] = splat(x.starts[r * groups + g]);
    }
    dot_group<Bits, Rows>(sums, levels, x.values + g * Group, columns, Group);
    for (int v = 0; v < kVectors; ++v) {
      const Floats scale = load_scale<Scale>(scales, column + v * kColumns);
      for (int r = 0; r < Rows; ++r) {
        totals[r][v] = fma(to_floats(sums[r][v]), mul(splat(x.scales[r * groups + g]), scale), totals[r][v]);
      }
    }
    if (form.offsets) {
      for (int v = 0; v < kVectors; ++v) {
        const Floats offset = load_scale<Scale>(scales, kTileRows + column + v * kColumns);
        for (int r = 0; r < Rows; ++r) totals[r][v] = fma(splat(x.sums[r * groups + g]), offset, totals[r][v]);
      }
    }
    levels += Group * kTileRows * Bits / 8;
    scales += form.scale_bytes;
  }
  for (int v = 0; v < kVectors; ++v) {
    for (int r = 0; r < Rows; ++r) store(outputs[v] + r * call.stride, totals[r][v]);
  }
}

template <int Bits, int Rows, int Group, class Scale>
void multiply_rows(const TileCall& call, int64_t row, const uint8_t* ahead, int64_t lines) {
  const int64_t groups = call.form->groups;
  const Block x{call.x.values + row * call.form->columns, call.x.scales + row * groups, call.x.starts + row * groups,
                call.x.sums + row * groups};
  for (int column = 0; column < kTileRows; column += kVectors * kColumns) {
    float* outputs[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const int at = column + v * kColumns;
      outputs[v] = (at < 16 ? call.low + at : call.high + at - 16) + row * call.stride;
    }
    multiply_part<Bits, Rows, Group, Scale>(call, x, column, ahead, column == 0 ? lines : 0, outputs);
  }
}

template <int Bits, int Group, class Scale>
void multiply_tile(const TileCall& call) {
  const int64_t blocks = (call.rows + kRows - 1) / kRows, groups = call.form->groups;
  // Cache lines to fetch in each group, so that the blocks together fetch a tile.
  const int64_t wanted = call.form->tile_bytes / 64;
  const int64_t lines = call.ahead == nullptr ? 0 : (wanted + blocks * groups - 1) / (blocks * groups);
  const uint8_t* ahead = call.ahead;
  for (int64_t row = 0; row < call.rows; row += kRows, ahead += lines * groups * 64) {
    switch (call.rows - row) {
      case 1:
        multiply_rows<Bits, 1, Group, Scale>(call, row, ahead, lines);
        break;
#if PEREGRINE_LINEAR_ROWS > 2
      case 2:
        multiply_rows<Bits, 2, Group, Scale>(call, row, ahead, lines);
        break;
      case 3:
        multiply_rows<Bits, 3, Group, Scale>(call, row, ahead, lines);
        break;
#endif
      default:
        multiply_rows<Bits, kRows, Group, Scale>(call, row, ahead, lines);
    }
  }
}

template <class Scale>
void multiply_scaled(const TileCall& call) {
  const bool four = call.form->bits == 4;
  if (call.form->group == 32) {
    four ? multiply_tile<4, 32, Scale>(call) : multiply_tile<8, 32, Scale>(call);
  } else {
    four ? multiply_tile<4, 64, Scale>(call) : multiply_tile<8, 64, Scale>(call);
  }
}

void multiply(const TileCall& call) {
  call.form->wide ? multiply_scaled<float>(call) : multiply_scaled<uint16_t>(call);
}

}  // namespace
