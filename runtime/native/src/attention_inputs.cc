#include "attention_inputs.h"

#include <algorithm>
#include <cinttypes>
#include <cmath>

namespace peregrine {

namespace {

constexpr int64_t kMaxHeads = 1 << 16;
constexpr int64_t kMaxHeadDim = 1 << 12;

OrtStatus* read_vector(const Context& context, size_t index, const char* name, int64_t length, Tensor* tensor) {
  if (OrtStatus* status = context.input(index, tensor)) return status;
  if (tensor->rank == 1 && tensor->dims[0] == length) return nullptr;
  return invalid("PagedAttention: %s must have shape [%" PRId64 "]", name, length);
}

OrtStatus* read_matrix(const Context& context, size_t index, const char* name, int64_t columns, Tensor* tensor) {
  if (OrtStatus* status = context.input(index, tensor)) return status;
  if (tensor->rank == 2 && (columns < 0 || tensor->dims[1] == columns)) return nullptr;
  if (columns < 0) return invalid("PagedAttention: %s must have two dimensions", name);
  return invalid("PagedAttention: %s must have two dimensions, the last of %" PRId64, name, columns);
}

}  // namespace

OrtStatus* AttentionAttributes::read(const OrtKernelInfo* info) {
  attribute(info, "num_heads", &num_heads);
  attribute(info, "kv_num_heads", &kv_num_heads);
  attribute(info, "head_dim", &head_dim);
  attribute(info, "rotary_dim", &rotary_dim);
  attribute(info, "sliding_window", &sliding_window);
  attribute(info, "scale", &scale);
  attribute(info, "norm_eps", &norm_eps);
  attribute(info, "softcap", &softcap);
  if (head_dim < 1 || head_dim > kMaxHeadDim) {
    return invalid("PagedAttention: head_dim is %" PRId64 ", which is not in 1..%" PRId64, head_dim, kMaxHeadDim);
  }
  if (kv_num_heads < 1 || num_heads < kv_num_heads || num_heads > kMaxHeads || num_heads % kv_num_heads != 0) {
    return invalid("PagedAttention: num_heads (%" PRId64 ") must be a multiple of kv_num_heads (%" PRId64 ")",
                   num_heads, kv_num_heads);
  }
  if (rotary_dim == 0) rotary_dim = head_dim;
  if (rotary_dim < 0 || rotary_dim > head_dim || rotary_dim % 2 != 0) {
    return invalid("PagedAttention: rotary_dim is %" PRId64 ", which is not an even number up to head_dim (%" PRId64
                   ")",
                   rotary_dim, head_dim);
  }
  if (sliding_window < 0) return invalid("PagedAttention: sliding_window is %" PRId64, sliding_window);
  if (!std::isfinite(scale) || !std::isfinite(norm_eps) || !std::isfinite(softcap) || softcap < 0.0f) {
    return invalid("PagedAttention: scale, norm_eps and softcap must be finite, and softcap not negative");
  }
  if (scale == 0.0f) scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  return nullptr;
}

OrtStatus* AttentionInputs::read(const Context& context, const AttentionAttributes& attributes) {
  Tensor tensor;
  const int64_t width = (attributes.num_heads + 2 * attributes.kv_num_heads) * attributes.head_dim;
  if (OrtStatus* status = read_matrix(context, 0, "qkv", width, &tensor)) return status;
  qkv = tensor.as<float>();
  tokens = tensor.dims[0];
  if (OrtStatus* status = read_caches(context, attributes)) return status;
  if (OrtStatus* status = read_tables(context, attributes)) return status;
  if (OrtStatus* status = read_norms(context, attributes)) return status;
  if (cu_seqlens[0] != 0 || cu_seqlens[sequences] != tokens) {
    return invalid("PagedAttention: cu_seqlens runs from %d to %d, qkv has %" PRId64 " rows", cu_seqlens[0],
                   cu_seqlens[sequences], tokens);
  }
  for (int64_t sequence = 0; sequence < sequences; ++sequence) {
    if (OrtStatus* status = check_sequence(sequence, attributes.sliding_window)) return status;
  }
  return nullptr;
}

OrtStatus* AttentionInputs::read_caches(const Context& context, const AttentionAttributes& attributes) {
  Tensor keys, values;
  if (OrtStatus* status = context.input(1, &keys)) return status;
  if (OrtStatus* status = context.input(2, &values)) return status;
  if (keys.rank != 4 || keys.dims[1] != attributes.kv_num_heads || keys.dims[2] < 1 ||
      keys.dims[3] != attributes.head_dim) {
    return invalid("PagedAttention: k_cache must have shape [num_blocks, %" PRId64 ", block_size, %" PRId64 "]",
                   attributes.kv_num_heads, attributes.head_dim);
  }
  if (values.rank != 4 || !std::equal(keys.dims, keys.dims + 4, values.dims)) {
    return invalid("PagedAttention: v_cache must have the shape of k_cache");
  }
  k_cache = keys.data;
  v_cache = values.data;
  num_blocks = keys.dims[0];
  block_size = keys.dims[2];
  for (size_t index = 0; index < 2; ++index) {
    void* output = nullptr;
    if (OrtStatus* status = context.output(1 + index, keys.dims, 4, &output)) return status;
    if (output != (index == 0 ? k_cache : v_cache)) {
      return invalid("PagedAttention: %s_cache_out must be bound to the same memory as %s_cache",
                     index == 0 ? "k" : "v", index == 0 ? "k" : "v");
    }
  }
  return nullptr;
}

OrtStatus* AttentionInputs::read_tables(const Context& context, const AttentionAttributes& attributes) {
  Tensor tensor;
  if (OrtStatus* status = context.input(3, &tensor)) return status;
  if (tensor.rank != 1 || tensor.dims[0] < 1) {
    return invalid("PagedAttention: cu_seqlens must have shape [sequences + 1]");
  }
  cu_seqlens = tensor.as<int32_t>();
  sequences = tensor.dims[0] - 1;
  if (OrtStatus* status = read_vector(context, 4, "past_lens", sequences, &tensor)) return status;
  past_lens = tensor.as<int32_t>();
  if (OrtStatus* status = read_matrix(context, 5, "block_table", -1, &tensor)) return status;
  if (tensor.dims[0] != sequences) {
    return invalid("PagedAttention: block_table must have a row for each of %" PRId64 " sequences", sequences);
  }
  block_table = tensor.as<int32_t>();
  table_width = tensor.dims[1];
  if (OrtStatus* status = read_matrix(context, 6, "cos", attributes.rotary_dim / 2, &tensor)) return status;
  cos = tensor.as<float>();
  max_positions = tensor.dims[0];
  if (OrtStatus* status = read_matrix(context, 7, "sin", attributes.rotary_dim / 2, &tensor)) return status;
  sin = tensor.as<float>();
  if (tensor.dims[0] != max_positions) return invalid("PagedAttention: cos and sin must have the same shape");
  return nullptr;
}

OrtStatus* AttentionInputs::read_norms(const Context& context, const AttentionAttributes& attributes) {
  const float** const gains[] = {&q_norm, &k_norm};
  const char* const names[] = {"q_norm", "k_norm"};
  for (size_t i = 0; i < 2; ++i) {
    Tensor tensor;
    if (OrtStatus* status = context.input(8 + i, &tensor)) return status;
    if (!tensor.present()) continue;
    if (tensor.rank != 1 || tensor.dims[0] != attributes.head_dim) {
      return invalid("PagedAttention: %s must have shape [%" PRId64 "]", names[i], attributes.head_dim);
    }
    *gains[i] = tensor.as<float>();
  }
  return nullptr;
}

OrtStatus* AttentionInputs::check_sequence(int64_t sequence, int64_t window) const {
  const int64_t count = new_tokens(sequence), past = past_lens[sequence], length = past + count;
  if (count < 0) return invalid("PagedAttention: cu_seqlens decreases at sequence %" PRId64, sequence);
  if (past < 0) return invalid("PagedAttention: past_lens[%" PRId64 "] is %" PRId64, sequence, past);
  if (count == 0) return nullptr;
  if (length > max_positions) {
    return invalid("PagedAttention: sequence %" PRId64 " has %" PRId64 " tokens, cos and sin have %" PRId64
                   " positions",
                   sequence, length, max_positions);
  }
  const int64_t first = window > 0 ? std::max<int64_t>(0, past - window + 1) : 0;
  const int64_t last_block = (length - 1) / block_size;
  if (last_block >= table_width) {
    return invalid("PagedAttention: sequence %" PRId64 " has %" PRId64 " tokens, its block table holds %" PRId64
                   " blocks",
                   sequence, length, table_width);
  }
  for (int64_t block = first / block_size; block <= last_block; ++block) {
    const int32_t id = block_table[sequence * table_width + block];
    if (id < 0 || id >= num_blocks) {
      return invalid("PagedAttention: block_table[%" PRId64 ", %" PRId64 "] is %d, the cache has %" PRId64 " blocks",
                     sequence, block, id, num_blocks);
    }
  }
  return nullptr;
}

}  // namespace peregrine
