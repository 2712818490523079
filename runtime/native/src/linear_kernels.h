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

constexpr int kMostPanelRows = 6;

// Up to LinearKernels::rows rows of activations in groups of columns, x = scale * value. The rows of a panel are
// interleaved, so that a kernel reads all of it as one stream.
struct Panel {
  int8_t* values;   // [groups][rows][group], -127..127
  float* scales;    // [groups][rows], max|x| / 127
  int32_t* starts;  // [groups][rows], what a group's integer sum starts from: (bias - centre) * sum of values
  float* sums;      // [groups][rows], scale * sum of values
  int64_t rows;
};

// One tile for one panel.
struct TileCall {
  const LinearForm* form;
  const uint8_t* tile;
  const uint8_t* ahead;  // fetched from memory meanwhile
  int64_t lines;         // of 64 bytes that each group fetches
  const float* first;    // [32], what sums start from: the bias
  Panel x;
  float* low;             // columns 0..15 of the result, `stride` floats from row to row
  float* high;            // columns 16..31
  const float* residual;  // all 32 columns of what is added to the result, or null
  int64_t stride;         // of low, high and residual
};

struct LinearKernels {
  const char* name;
  int rows;  // the most of a panel, up to kMostPanelRows
  // What `multiply` takes off 8-bit levels before it multiplies: 128 where instructions want them signed, or 0.
  int bias;

  // y[i] = x[i] * (1 / sqrt(mean of x^2 + epsilon)) * gain[i], of `count` values, a multiple of 32.
  void (*normalise)(const float* x, const float* gain, float epsilon, int64_t count, float* y);
  // Row `row` of the panel from K floats. Not a number and infinity make every result of their group not a number.
  void (*quantise)(const LinearForm&, int bias, const float* x, const Panel& panel, int64_t row);
  // result = first + the sum over groups, in order, of fma(float(integer sum), scale of x * scale, .) and, with
  // offsets, fma(sums, offset, .); then + residual.
  void (*multiply)(const TileCall&);
};

extern const LinearKernels kLinearPortable;
#if defined(__x86_64__)
extern const LinearKernels kLinearAvx2;
extern const LinearKernels kLinearAvxVnni;
extern const LinearKernels kLinearAvx512Vnni;
#endif

}  // namespace peregrine
