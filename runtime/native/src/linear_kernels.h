// The inner loops of the linear op, as a table of functions: linear_kernels.cc is compiled once per instruction set.
//
// Every table computes the same bits: integer sums are exact, and float operations are the same in the same order.
//
// NOTE: as in kernels.h, no inline function or template with external linkage beyond what baseline code may run.
#pragma once

#include <cstddef>
#include <cstdint>

#include "linear_form.h"

namespace peregrine {

// Rows of activations in groups of columns: x = scale * value.
struct QuantRows {
  int8_t* values;   // [rows][K], -127..127
  float* scales;    // [rows][groups], max|x| / 127
  int32_t* starts;  // [rows][groups], what a group's integer sum starts from: (bias - centre) * sum of values
  float* sums;      // [rows][groups], scale * sum of values
};

// One tile for some rows.
struct TileCall {
  const LinearForm* form;
  const uint8_t* tile;
  const uint8_t* ahead;  // fetched from memory meanwhile, tile_bytes of it; null: nothing
  const float* first;    // [32], what sums start from: the bias
  QuantRows x;
  int64_t rows;
  float* low;      // columns 0..15 of the result, `stride` floats from row to row
  float* high;     // columns 16..31
  int64_t stride;  // of low and high
};

struct LinearKernels {
  const char* name;
  // What `multiply` takes off 8-bit levels before it multiplies: 128 where instructions want them signed, or 0.
  int bias;

  // One row of K floats. Not a number and infinity make every result of their group not a number.
  void (*quantise)(const LinearForm&, int bias, const float* x, const QuantRows& row);
  // result = first + the sum over groups, in order, of fma(float(integer sum), scale of x * scale, .) and, with
  // offsets, fma(sums, offset, .).
  void (*multiply)(const TileCall&);
};

extern const LinearKernels kLinearPortable;
#if defined(__x86_64__)
extern const LinearKernels kLinearAvx2;
extern const LinearKernels kLinearAvxVnni;
extern const LinearKernels kLinearAvx512Vnni;
#endif

}  // namespace peregrine
