// Linear: y = norm(x) W^T + bias + residual with quantised weights (linear_form.h) and activations quantised to int8 in
// the same groups. The RMSNorm is there with the input gain, of epsilon norm_eps; bias and residual are optional too.
#pragma once

#include "linear_form.h"
#include "linear_run.h"
#include "op.h"

namespace peregrine {

class Linear {
 public:
  static constexpr const char* kName = "Linear";
  static constexpr Port kInputs[] = {
      {kFloat}, {kUint8}, {kFloat, kOptional}, {kFloat, kOptional}, {kFloat, kOptional}};
  static constexpr Port kOutputs[] = {{kFloat}};
  static constexpr Alias kAliases[] = {{-1, -1}};
  static constexpr size_t kAliasCount = 0;

  static OrtStatus* create(const OrtKernelInfo* info, Linear** kernel);
  OrtStatus* compute(Context& context) const;

 private:
  LinearForm form_;
  float norm_eps_ = 0.0f;
  LinearEpilogue epilogue_ = LinearEpilogue::kNone;
};

}  // namespace peregrine
