#pragma once

#include "attention_inputs.h"
#include "kernels.h"
#include "op.h"

namespace peregrine {

// Runs a checked call; output is [tokens][num_heads * head_dim].
OrtStatus* run_attention(const Context& context, const AttentionAttributes& attributes, const AttentionInputs& inputs,
                         CacheType cache, float* output);

}  // namespace peregrine
