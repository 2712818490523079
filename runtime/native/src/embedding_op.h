// QuantEmbedding: rows of a quantised matrix (linear_form.h) as floats, so that a tied output head and the embedding are
// the same bytes.
#pragma once

#include "linear_form.h"
#include "op.h"

namespace peregrine {

class QuantEmbedding {
 public:
  static constexpr const char* kName = "QuantEmbedding";
  static constexpr Port kInputs[] = {{kInt64}, {kUint8}};
  static constexpr Port kOutputs[] = {{kFloat}};
  static constexpr Alias kAliases[] = {{-1, -1}};
  static constexpr size_t kAliasCount = 0;

  static OrtStatus* create(const OrtKernelInfo* info, QuantEmbedding** kernel);
  OrtStatus* compute(Context& context) const;

 private:
  void row(const uint8_t* tile, int64_t column, float* output) const;

  float scale_at(const uint8_t* scales, int64_t index) const;

  LinearForm form_;
};

}  // namespace peregrine
