#pragma once

#include "attention_inputs.h"
#include "op.h"

namespace peregrine {

// Runs a checked call; output is [tokens][num_heads * head_dim].
OrtStatus* run_attention(const Context& context, const AttentionAttributes& attributes, const AttentionInputs& inputs,
                         bool half_cache, float* output);

}  // namespace peregrine
