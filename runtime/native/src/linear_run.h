#pragma once

#include "linear_form.h"
#include "op.h"

namespace peregrine {

// What the op does with the products.
enum class LinearEpilogue : int64_t {
  kNone = 0,
  kSwiGlu = 1,  // rows of the matrix come in 16 gates and 16 ups in turn: the result is silu(gate) * up, half as wide
};

struct LinearCall {
  const LinearForm* form;
  const uint8_t* weight;  // [tiles][tile_bytes]
  const float* bias;      // [N], or null
  const float* gain;      // [K], of an RMSNorm of x, or null
  float norm_eps;
  const float* residual;  // [count][N], or null
  const float* x;         // [count][K]
  int64_t count;
  LinearEpilogue epilogue;
  float* y;       // [count][width]
  int64_t width;  // N, or half of it
};

// y <- norm(x) W^T + bias, then the epilogue, + residual. A row of y depends on the same rows of x and residual alone,
// to the bit.
OrtStatus* run_linear(const Context& context, const LinearCall& call);

}  // namespace peregrine
