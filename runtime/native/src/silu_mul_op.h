// SiluMul: the gated activation of a SwiGLU block, y = silu(x[:, :I]) * x[:, I:].
#pragma once

#include "op.h"

namespace peregrine {

class SiluMul {
 public:
  static constexpr const char* kName = "SiluMul";
  static constexpr Port kInputs[] = {{kFloat}};
  static constexpr Port kOutputs[] = {{kFloat}};
  static constexpr Alias kAliases[] = {{-1, -1}};
  static constexpr size_t kAliasCount = 0;

  static OrtStatus* create(const OrtKernelInfo* info, SiluMul** kernel);
  OrtStatus* compute(Context& context) const;
};

}  // namespace peregrine
