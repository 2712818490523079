// Linear: y = x W^T + bias with quantised weights (linear_form.h) and activations quantised to int8 in the same groups.
#pragma once

#include "linear_form.h"
#include "linear_run.h"
#include "op.h"

namespace peregrine {

class Linear {
 public:
  static constexpr const char* kName = "Linear";
  static constexpr Port kInputs[] = {{kFloat}, {kUint8}, {kFloat, kOptional}};
  static constexpr Port kOutputs[] = {{kFloat}};
  static constexpr Alias kAliases[] = {{-1, -1}};
  static constexpr size_t kAliasCount = 0;

  static OrtStatus* create(const OrtKernelInfo* info, Linear** kernel);
  OrtStatus* compute(Context& context) const;

 private:
  LinearForm form_;
  LinearEpilogue epilogue_ = LinearEpilogue::kNone;
};

}  // namespace peregrine
