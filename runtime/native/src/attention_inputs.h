// The tensors of a PagedAttention call, checked.
#pragma once

#include "op.h"

namespace peregrine {

struct AttentionAttributes {
  int64_t num_heads = 0;
  int64_t kv_num_heads = 0;
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;      // as given 0: head_dim
  int64_t sliding_window = 0;  // 0: none
  float scale = 0.0f;          // as given 0: head_dim ** -0.5
  float norm_eps = 1e-5f;
  float softcap = 0.0f;  // 0: none

  // Reads and checks them.
  OrtStatus* read(const OrtKernelInfo* info);
};

struct AttentionInputs {
  const float* qkv = nullptr;  // [tokens][(num_heads + 2 kv_num_heads) head_dim]
  void* k_cache = nullptr;     // [num_blocks][kv_num_heads][block_size][head_dim]
  void* v_cache = nullptr;
  const int32_t* cu_seqlens = nullptr;   // [sequences + 1]
  const int32_t* past_lens = nullptr;    // [sequences]
  const int32_t* block_table = nullptr;  // [sequences][table_width]
  const float* cos = nullptr;            // [max_positions][rotary_dim / 2]
  const float* sin = nullptr;
  const float* q_norm = nullptr;  // [head_dim] or null
  const float* k_norm = nullptr;
  int64_t tokens = 0, sequences = 0, table_width = 0, num_blocks = 0, block_size = 0, max_positions = 0;

  // Fetches and checks every tensor: after it, no position that the op touches is out of bounds.
  OrtStatus* read(const Context& context, const AttentionAttributes& attributes);

  int64_t first_token(int64_t sequence) const { return cu_seqlens[sequence]; }
  int64_t new_tokens(int64_t sequence) const {
    return static_cast<int64_t>(cu_seqlens[sequence + 1]) - cu_seqlens[sequence];
  }

 private:
  OrtStatus* read_caches(const Context& context, const AttentionAttributes& attributes);
  OrtStatus* read_tables(const Context& context, const AttentionAttributes& attributes);
  OrtStatus* read_norms(const Context& context, const AttentionAttributes& attributes);
  OrtStatus* check_sequence(int64_t sequence, int64_t window) const;
};

}  // namespace peregrine
