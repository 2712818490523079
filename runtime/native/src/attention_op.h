// PagedAttention: writes the new tokens' keys and values into a paged cache and attends to it.
#pragma once

#include "attention_inputs.h"
#include "op.h"

namespace peregrine {

template <Element kCache>
class PagedAttention {
 public:
  static constexpr const char* kName = "PagedAttention";
  static constexpr Port kInputs[] = {
      {kFloat},           {kCache}, {kCache}, {kInt32}, {kInt32}, {kInt32}, {kFloat}, {kFloat}, {kFloat, kOptional},
      {kFloat, kOptional}};
  static constexpr Port kOutputs[] = {{kFloat}, {kCache}, {kCache}};
  static constexpr Alias kAliases[] = {{1, 1}, {2, 2}};
  static constexpr size_t kAliasCount = 2;

  static OrtStatus* create(const OrtKernelInfo* info, PagedAttention** kernel);
  OrtStatus* compute(Context& context) const;

 private:
  AttentionAttributes attributes_;
};

extern template class PagedAttention<kFloat>;
extern template class PagedAttention<kHalf>;
extern template class PagedAttention<kBfloat>;

}  // namespace peregrine
