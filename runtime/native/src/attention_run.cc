#include "attention_run.h"

#include <algorithm>
#include <atomic>

#include "attention_layout.h"
#include "attention_memory.h"
#include "attention_plan.h"
#include "isa.h"
#include "threads.h"
#include "workspace.h"

namespace peregrine {

namespace {

constexpr float kLog2E = 1.44269504088896341f;
// Multiply-adds below which waking another thread costs more than it saves.
constexpr int64_t kParallelCost = 1 << 18;

void copy_floats(const float* from, float* to, size_t count) { std::copy_n(from, count, to); }

size_t element_bytes(CacheType type) { return type == CacheType::kFloat ? sizeof(float) : sizeof(uint16_t); }

class AttentionRun {
 public:
  AttentionRun(const Context& context, const AttentionAttributes& attributes, const AttentionInputs& inputs,
               CacheType cache, float* output)
      : context_(context),
        attributes_(attributes),
        inputs_(inputs),
        cache_(cache),
        output_(output),
        kernels_(*active_kernels()),
        dim_(attributes.head_dim),
        qkv_width_((attributes.num_heads + 2 * attributes.kv_num_heads) * attributes.head_dim),
        layout_(cache, inputs.block_size, dim_),
        plan_(inputs, attributes, worker_limit()),
        memory_(kernels_, dim_, plan_.max_rows()) {}

  OrtStatus* run() {
    workers_ = plan_.total_cost() < kParallelCost ? 1 : std::min<int64_t>(worker_limit(), plan_.item_count());
    Carver counter(nullptr);
    memory_.place(&counter, &plan_, workers_);
    Workspace workspace(counter.used());
    if (workspace.data() == nullptr) return invalid("PagedAttention: out of memory (%zu bytes)", counter.used());
    Carver carver(workspace.data());
    memory_.place(&carver, &plan_, workers_);
    plan_.fill();
    if (OrtStatus* status = write_long_sequences()) return status;
    std::atomic<int64_t> next{0};
    return context_.parallel_for(static_cast<size_t>(workers_), [&](size_t worker) {
      const WorkerSlot slot = memory_.slot(worker);
      const int64_t count = plan_.item_count();
      int64_t i = next.fetch_add(1, std::memory_order_relaxed);
      while (i < count) {
        const int64_t following = next.fetch_add(1, std::memory_order_relaxed);
        attend(plan_.item(i), following < count ? &plan_.item(following) : nullptr, slot);
        i = following;
      }
    });
  }

 private:
  HeadTransform transform(const float* norm, int64_t position) const {
    const int64_t half = attributes_.rotary_dim / 2;
    return {norm,
            attributes_.norm_eps,
            inputs_.cos + position * half,
            inputs_.sin + position * half,
            static_cast<int>(dim_),
            static_cast<int>(attributes_.rotary_dim)};
  }

  int64_t block_stride() const { return attributes_.kv_num_heads * head_stride(); }
  int64_t head_stride() const { return inputs_.block_size * dim_; }

  // Sequences of several query blocks, whose keys are read by all of them: written first. An item of any other sequence
  // writes what it is going to read.
  OrtStatus* write_long_sequences() const {
    if (!plan_.any_long()) return nullptr;
    const int64_t pieces = inputs_.tokens * qkv_width_ < kParallelCost / 4 ? 1 : workers_;
    return context_.parallel_for(static_cast<size_t>(pieces), [&](size_t piece) {
      const auto p = static_cast<int64_t>(piece);
      const int64_t begin = inputs_.tokens * p / pieces, end = inputs_.tokens * (p + 1) / pieces;
      float* head = memory_.slot(piece).head;
      const int32_t* after = std::upper_bound(inputs_.cu_seqlens, inputs_.cu_seqlens + inputs_.sequences + 1, begin);
      int64_t sequence = after - inputs_.cu_seqlens - 1;
      for (int64_t token = begin; token < end; ++token) {
        while (inputs_.cu_seqlens[sequence + 1] <= token) ++sequence;
        if (!plan_.is_long(sequence)) continue;
        for (int64_t h = 0; h < attributes_.kv_num_heads; ++h) write_head(sequence, token, h, head);
      }
    });
  }

  // The new tokens of the item's own splits.
  void write_item(const WorkItem& item, float* head) const {
    const QueryBlock& block = plan_.block(item);
    if (plan_.is_long(block.sequence)) return;
    const int64_t past = block.first_position, stop = past + block.tokens;
    const int64_t begin = std::max(past, item.first_split * kSplit);
    const int64_t end = std::min(stop, (item.first_split + item.splits) * kSplit);
    for (int64_t position = begin; position < end; ++position) {
      for (int64_t h = 0; h < block.heads; ++h) {
        write_head(block.sequence, token_of(block, position - past), block.kv_head + h, head);
      }
    }
  }

  void write_head(int64_t sequence, int64_t token, int64_t kv_head, float* head) const {
    const int64_t position = inputs_.past_lens[sequence] + token - inputs_.first_token(sequence);
    const float* keys = inputs_.qkv + token * qkv_width_ + (attributes_.num_heads + kv_head) * dim_;
    const float* values = keys + attributes_.kv_num_heads * dim_;
    const int64_t block = inputs_.block_table[sequence * inputs_.table_width + position / inputs_.block_size];
    const int64_t part = block * block_stride() + kv_head * head_stride(), slot = position % inputs_.block_size;
    kernels_.transform_head(transform(inputs_.k_norm, position), keys, 1.0f, head);
    void* row = head + memory_.padded_dim();
    switch (cache_) {
      case CacheType::kFloat: return write_rows<float>(copy_floats, head, values, row, part, slot);
      case CacheType::kHalf: return write_rows<uint16_t>(kernels_.to_half, head, values, row, part, slot);
      case CacheType::kBfloat: return write_rows<Bfloat>(kernels_.to_bfloat, head, values, row, part, slot);
    }
  }

  // `row` is room for the elements of one.
  template <class Element>
  void write_rows(void (*convert)(const float*, Element*, size_t), const float* key, const float* value, void* row,
                  int64_t part, int64_t slot) const {
    auto* elements = static_cast<Element*>(row);
    convert(key, elements, static_cast<size_t>(dim_));
    layout_.write_key(elements, slot, static_cast<Element*>(inputs_.k_cache) + part);
    convert(value, elements, static_cast<size_t>(dim_));
    layout_.write_value(elements, slot, static_cast<Element*>(inputs_.v_cache) + part);
  }

  // The block's query rows, token by token and head by head, and the keys that each sees.
  AttendRows prepare_rows(const QueryBlock& block, const WorkerSlot& slot) const {
    const float scale = attributes_.softcap > 0.0f ? attributes_.scale : attributes_.scale * kLog2E;
    const int64_t group = plan_.group(), padded = memory_.padded_dim();
    const int64_t rows = block.tokens * group;
    for (int64_t i = 0; i < block.tokens; ++i) {
      const int64_t position = block.first_position + i;
      const float* heads = inputs_.qkv + token_of(block, i) * qkv_width_ + block.kv_head * group * dim_;
      const HeadTransform query_transform = transform(inputs_.q_norm, position);
      std::fill_n(slot.first + i * group, group, plan_.first_key(position));
      std::fill_n(slot.last + i * group, group, position + 1);
      for (int64_t h = 0; h < block.heads; ++h, heads += group * dim_) {
        float* queries = slot.queries + (h * rows + i * group) * padded;
        for (int64_t g = 0; g < group; ++g) {
          kernels_.transform_head(query_transform, heads + g * dim_, scale, queries + g * padded);
        }
      }
    }
    return {slot.queries,           slot.first,
            slot.last,              static_cast<int>(block.heads),
            static_cast<int>(rows), static_cast<int>(dim_),
            static_cast<int>(padded), attributes_.softcap};
  }

  int64_t token_of(const QueryBlock& block, int64_t i) const {
    return inputs_.first_token(block.sequence) + block.first_token + i;
  }

  // The keys of a split that any row of the block sees.
  KeyRange range_of(const QueryBlock& block, int64_t split) const {
    const size_t base = static_cast<size_t>(block.kv_head * head_stride()) * element_bytes(cache_);
    return {cache_,
            layout_.packed(),
            static_cast<const unsigned char*>(inputs_.k_cache) + base,
            static_cast<const unsigned char*>(inputs_.v_cache) + base,
            inputs_.block_table + block.sequence * inputs_.table_width,
            inputs_.block_size,
            block_stride(),
            head_stride(),
            static_cast<int>(block.heads),
            static_cast<int>(dim_),
            std::max(split * kSplit, plan_.first_key(block)),
            std::min((split + 1) * kSplit, AttentionPlan::last_key(block))};
  }

  void attend(const WorkItem& item, const WorkItem* next, const WorkerSlot& slot) {
    const QueryBlock& block = plan_.block(item);
    write_item(item, slot.head);
    const AttendRows rows = prepare_rows(block, slot);
    const bool apart = block.first_part >= 0;
    for (int64_t i = 0; i < item.splits; ++i) {
      const int64_t split = item.first_split + i;
      const SoftmaxState state = apart    ? memory_.part(block.first_part + split - block.first_split)
                                 : i == 0 ? slot.total
                                          : slot.part;
      const bool more = i + 1 < item.splits;
      const KeyRange range = range_of(block, split);
      KeyRange following{};
      if (more || next != nullptr) {
        following = more ? range_of(block, split + 1) : range_of(plan_.block(*next), next->first_split);
      }
      kernels_.attend(rows, range, more || next != nullptr ? &following : nullptr, slot.scratch, state);
      if (!apart && i > 0) kernels_.merge(rows.heads * rows.rows, rows.padded_dim, state, slot.total);
    }
    if (!apart) {
      write_output(block, slot.total);
    } else if (plan_.finish(item)) {
      const SoftmaxState total = memory_.part(block.first_part);
      for (int64_t i = 1; i < block.splits; ++i) {
        kernels_.merge(rows.heads * rows.rows, rows.padded_dim, memory_.part(block.first_part + i), total);
      }
      write_output(block, total);
    }
  }

  void write_output(const QueryBlock& block, const SoftmaxState& state) const {
    const int64_t group = plan_.group(), width = attributes_.num_heads * dim_, padded = memory_.padded_dim();
    int64_t row = 0;
    for (int64_t h = 0; h < block.heads; ++h) {
      for (int64_t i = 0; i < block.tokens; ++i) {
        float* heads = output_ + token_of(block, i) * width + (block.kv_head + h) * group * dim_;
        for (int64_t g = 0; g < group; ++g, ++row) {
          kernels_.finish(state.accumulator + row * padded, state.sum[row], static_cast<int>(dim_), heads + g * dim_);
        }
      }
    }
  }

  const Context& context_;
  const AttentionAttributes& attributes_;
  const AttentionInputs& inputs_;
  const CacheType cache_;
  float* const output_;
  const Kernels& kernels_;
  const int64_t dim_, qkv_width_;
  const CacheLayout layout_;
  AttentionPlan plan_;
  AttentionMemory memory_;
  int64_t workers_ = 1;
};

}  // namespace

OrtStatus* run_attention(const Context& context, const AttentionAttributes& attributes, const AttentionInputs& inputs,
                         CacheType cache, float* output) {
  return AttentionRun(context, attributes, inputs, cache, output).run();
}

}  // namespace peregrine
