#include "attention_op.h"

#include "attention_run.h"

namespace peregrine {

template <Element kCache>
OrtStatus* PagedAttention<kCache>::create(const OrtKernelInfo* info, PagedAttention** kernel) {
  *kernel = nullptr;
  AttentionAttributes attributes;
  if (OrtStatus* status = attributes.read(info)) return status;
  if (OrtStatus* status = new_kernel(kernel)) return status;
  (*kernel)->attributes_ = attributes;
  return nullptr;
}

template <Element kCache>
OrtStatus* PagedAttention<kCache>::compute(Context& context) const {
  AttentionInputs inputs;
  if (OrtStatus* status = inputs.read(context, attributes_)) return status;
  const int64_t dims[] = {inputs.tokens, attributes_.num_heads * attributes_.head_dim};
  void* output = nullptr;
  if (OrtStatus* status = context.output(0, dims, 2, &output)) return status;
  if (inputs.tokens == 0) return nullptr;
  constexpr CacheType kType = kCache == kFloat  ? CacheType::kFloat
                              : kCache == kHalf ? CacheType::kHalf
                                                : CacheType::kBfloat;
  return run_attention(context, attributes_, inputs, kType, static_cast<float*>(output));
}

template class PagedAttention<kFloat>;
template class PagedAttention<kHalf>;
template class PagedAttention<kBfloat>;

}  // namespace peregrine
