// Normalisation and quantisation of a row, and a tile for a panel, on whatever vectors were included before.
#pragma once

#include "linear_kernels.h"

namespace {

using peregrine::kTileRows;
using peregrine::LinearForm;
using peregrine::Panel;
using peregrine::TileCall;

// Groups whose largest magnitude is below are zeros: the reciprocal of their scale would overflow.
constexpr float kSmallest = 1e-35f;
constexpr uint32_t kInfinity = 0x7f800000;

// NOTE: 32 sums whatever the vectors, added up in halves: the order is part of the result.
inline float sum_of_squares(const float* x, int64_t count) {
  constexpr int kSums = 32 / kColumns;
  Floats sums[kSums];
  for (int v = 0; v < kSums; ++v) sums[v] = splat(0.0f);
  for (int64_t i = 0; i < count; i += 32) {
    for (int v = 0; v < kSums; ++v) {
      const Floats values = load(x + i + v * kColumns);
      sums[v] = add(sums[v], mul(values, values));
    }
  }
  float parts[32];
  for (int v = 0; v < kSums; ++v) store(parts + v * kColumns, sums[v]);
  for (int half = 16; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
  }
  return parts[0];
}

void normalise(const float* x, const float* gain, float epsilon, int64_t count, float* y) {
  const float mean = sum_of_squares(x, count) / static_cast<float>(count);
  const Floats inverse = splat(1.0f / __builtin_sqrtf(mean + epsilon));
  for (int64_t i = 0; i < count; i += kColumns) store(y + i, mul(mul(load(x + i), inverse), load(gain + i)));
}

void quantise(const LinearForm& form, int bias, const float* x, const Panel& panel, int64_t row) {
  const int group = static_cast<int>(form.group);
  const int64_t end = form.groups * panel.rows;
  for (int64_t at = row; at < end; at += panel.rows, x += group) {
    const uint32_t bits = peak_bits(x, group);
    float peak, inverse = 0.0f;
    __builtin_memcpy(&peak, &bits, sizeof peak);
    int8_t* values = panel.values + at * group;
    int32_t sum = 0;
    if (bits < kInfinity && peak >= kSmallest) {
      inverse = 127.0f / peak;
      sum = round_group(x, inverse, group, values);
    } else {
      __builtin_memset(values, 0, static_cast<size_t>(group));
      peak = bits < kInfinity ? 0.0f : __builtin_nanf("");
    }
    panel.scales[at] = peak / 127.0f;
    panel.starts[at] = (bias - form.centre) * sum;
    panel.sums[at] = panel.scales[at] * static_cast<float>(sum);
  }
}

inline Ints four_values(const int8_t* values) {
  int32_t x;
  __builtin_memcpy(&x, values, sizeof x);
  return splat(x);
}

// sums[r][v] += the products of a group, for Rows rows and kVectors vectors of columns.
template <int Bits, int Rows, int Group>
inline void dot_group(Ints (&sums)[Rows][kVectors], const uint8_t* levels, const int8_t* x) {
  constexpr int kStep = kTileRows * 4, kPart = kColumns * 4;  // bytes: of four columns, and of a vector of them
  // GCC alone would leave loops of 16 steps rolled, with the sums in memory.
#if !defined(__clang__)
#pragma GCC unroll 16
#endif
  for (int k = 0; k < Group; k += 4 * 8 / Bits) {
    Ints part[kVectors];
    for (int v = 0; v < kVectors; ++v) part[v] = load_levels(levels + v * kPart);
    for (int r = 0; r < Rows; ++r) {
      const Ints values = four_values(x + r * Group + k);
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = Bits == 8 ? dot8(sums[r][v], part[v], values) : dot4(sums[r][v], low_half(part[v]), values);
      }
    }
    if (Bits == 4) {
      for (int r = 0; r < Rows; ++r) {
        const Ints values = four_values(x + r * Group + k + 4);
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
void multiply_part(const TileCall& call, int column) {
  const LinearForm& form = *call.form;
  const uint8_t* ahead = call.ahead;
  const int64_t lines = column == 0 ? call.lines : 0;
  const uint8_t* levels = call.tile + column * 4;
  const uint8_t* scales = call.tile + form.level_bytes;
  Panel x = call.x;
  Floats totals[Rows][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    for (int r = 0; r < Rows; ++r) totals[r][v] = load(call.first + column + v * kColumns);
  }
  if (call.residual != nullptr) {
    for (int r = 0; r < Rows; ++r) prefetch(call.residual + r * call.stride + column);
  }
  for (int64_t groups = form.groups; groups > 0; --groups) {
    for (int64_t line = 0; line < lines; ++line, ahead += 64) prefetch(ahead);
    Ints sums[Rows][kVectors];
    for (int r = 0; r < Rows; ++r) {
      for (int v = 0; v < kVectors; ++v) sums[r][v] = splat(x.starts[r]);
    }
    dot_group<Bits, Rows, Group>(sums, levels, x.values);
    for (int v = 0; v < kVectors; ++v) {
      const Floats scale = load_scale<Scale>(scales, column + v * kColumns);
      for (int r = 0; r < Rows; ++r) {
        totals[r][v] = fma(to_floats(sums[r][v]), mul(splat(x.scales[r]), scale), totals[r][v]);
      }
    }
    if (form.offsets) {
      for (int v = 0; v < kVectors; ++v) {
        const Floats offset = load_scale<Scale>(scales, kTileRows + column + v * kColumns);
        for (int r = 0; r < Rows; ++r) totals[r][v] = fma(splat(x.sums[r]), offset, totals[r][v]);
      }
    }
    levels += Group * kTileRows * Bits / 8;
    scales += form.scale_bytes;
    x.values += Group * Rows;
    x.scales += Rows;
    x.starts += Rows;
    x.sums += Rows;
  }
  for (int v = 0; v < kVectors; ++v) {
    const int at = column + v * kColumns;
    float* output = at < 16 ? call.low + at : call.high + at - 16;
    for (int r = 0; r < Rows; ++r) {
      Floats result = totals[r][v];
      if (call.residual != nullptr) result = add(result, load(call.residual + r * call.stride + at));
      store(output + r * call.stride, result);
    }
  }
}

template <int Bits, int Group, class Scale, int Rows = kRows>
void multiply_rows(const TileCall& call) {
  if constexpr (Rows > 1) {
    if (call.x.rows < Rows) return multiply_rows<Bits, Group, Scale, Rows - 1>(call);
  }
  for (int column = 0; column < kTileRows; column += kVectors * kColumns) {
    multiply_part<Bits, Rows, Group, Scale>(call, column);
  }
}

template <class Scale>
void multiply_scaled(const TileCall& call) {
  const bool four = call.form->bits == 4;
  if (call.form->group == 32) {
    four ? multiply_rows<4, 32, Scale>(call) : multiply_rows<8, 32, Scale>(call);
  } else {
    four ? multiply_rows<4, 64, Scale>(call) : multiply_rows<8, 64, Scale>(call);
  }
}

void multiply(const TileCall& call) {
  call.form->wide ? multiply_scaled<float>(call) : multiply_scaled<uint16_t>(call);
}

}  // namespace
