#include "attention_run.h"

#include <algorithm>
#include <atomic>

#include "attention_plan.h"
#include "isa.h"
#include "threads.h"
#include "workspace.h"

namespace peregrine {

namespace {

constexpr float kLog2E = 1.44269504088896341f;
// Multiply-adds below which waking another thread costs more than it saves.
constexpr int64_t kParallelCost = 1 << 18;

// The memory of one worker.
struct Slot {
  float* queries;
  int64_t* first;
  int64_t* last;
  AttendScratch scratch;
  SoftmaxState total, part;
};

class AttentionRun {
 public:
  AttentionRun(const Context& context, const AttentionAttributes& attributes, const AttentionInputs& inputs,
               bool half_cache, float* output)
      : context_(context),
        attributes_(attributes),
        inputs_(inputs),
        half_(half_cache),
        output_(output),
        kernels_(*active_kernels()),
        dim_(attributes.head_dim),
        padded_((attributes.head_dim + kernels_.lanes - 1) / kernels_.lanes * kernels_.lanes),
        qkv_width_((attributes.num_heads + 2 * attributes.kv_num_heads) * attributes.head_dim),
        plan_(inputs, attributes, worker_limit()) {}

  OrtStatus* run() {
    workers_ = plan_.total_cost() < kParallelCost ? 1 : std::min<int64_t>(worker_limit(), plan_.item_count());
    Carver counter(nullptr);
    place(&counter);
    Workspace workspace(counter.used());
    if (workspace.data() == nullptr) return invalid("PagedAttention: out of memory (%zu bytes)", counter.used());
    Carver carver(workspace.data());
    place(&carver);
    plan_.fill();
    if (OrtStatus* status = write_caches()) return status;
    std::atomic<int64_t> next{0};
    return context_.parallel_for(static_cast<size_t>(workers_), [&](size_t worker) {
      const Slot slot = slot_at(worker);
      for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < plan_.item_count();) {
        attend(plan_.item(i), slot);
      }
    });
  }

 private:
  void place(Carver* carver) {
    plan_.place(carver);
    parts_ = place_state(carver, plan_.part_count());
    slots_ = carver->take<unsigned char>(slot_bytes() * static_cast<size_t>(workers_));
  }

  SoftmaxState place_state(Carver* carver, int64_t count) const {
    const auto rows = static_cast<size_t>(count * plan_.max_rows());
    SoftmaxState state;
    state.max = carver->take<float>(rows);
    state.sum = carver->take<float>(rows);
    state.accumulator = carver->take<float>(rows * static_cast<size_t>(padded_));
    return state;
  }

  Slot place_slot(Carver* carver) const {
    const auto rows = static_cast<size_t>(plan_.max_rows()), padded = static_cast<size_t>(padded_);
    Slot slot;
    slot.queries = carver->take<float>(rows * padded);
    slot.first = carver->take<int64_t>(rows);
    slot.last = carver->take<int64_t>(rows);
    slot.scratch.keys = carver->take<float>(kTile * padded);
    slot.scratch.values = carver->take<float>(kTile * padded);
    slot.scratch.scores = carver->take<float>(static_cast<size_t>(kTile * kernels_.row_group));
    slot.scratch.offsets = carver->take<int64_t>(2 * kTile);
    slot.total = place_state(carver, 1);
    slot.part = place_state(carver, 1);
    return slot;
  }

  size_t slot_bytes() const {
    Carver counter(nullptr);
    place_slot(&counter);
    return counter.used();
  }

  Slot slot_at(size_t worker) const {
    Carver carver(slots_ + worker * slot_bytes());
    return place_slot(&carver);
  }

  SoftmaxState part_at(int64_t index) const {
    const int64_t row = index * plan_.max_rows();
    return {parts_.max + row, parts_.sum + row, parts_.accumulator + row * padded_};
  }

  HeadTransform transform(const float* norm, int64_t position) const {
    const int64_t half = attributes_.rotary_dim / 2;
    return {norm,
            attributes_.norm_eps,
            inputs_.cos + position * half,
            inputs_.sin + position * half,
            static_cast<int>(dim_),
            static_cast<int>(attributes_.rotary_dim)};
  }

  // Elements from the start of a cache to the row of `position`, of KV head 0.
  int64_t cache_row(int64_t sequence, int64_t position) const {
    const int64_t id = inputs_.block_table[sequence * inputs_.table_width + position / inputs_.block_size];
    return id * block_stride() + position % inputs_.block_size * dim_;
  }
  int64_t block_stride() const { return attributes_.kv_num_heads * head_stride(); }
  int64_t head_stride() const { return inputs_.block_size * dim_; }

  OrtStatus* write_caches() const {
    const int64_t pieces = inputs_.tokens * qkv_width_ < kParallelCost / 4 ? 1 : workers_;
    return context_.parallel_for(static_cast<size_t>(pieces), [&](size_t piece) {
      const auto p = static_cast<int64_t>(piece);
      const int64_t begin = inputs_.tokens * p / pieces, end = inputs_.tokens * (p + 1) / pieces;
      float* head = slot_at(piece).queries;
      const int32_t* after = std::upper_bound(inputs_.cu_seqlens, inputs_.cu_seqlens + inputs_.sequences + 1, begin);
      int64_t sequence = after - inputs_.cu_seqlens - 1;
      for (int64_t token = begin; token < end; ++token) {
        while (inputs_.cu_seqlens[sequence + 1] <= token) ++sequence;
        write_token(sequence, token, head);
      }
    });
  }

  void write_token(int64_t sequence, int64_t token, float* head) const {
    const int64_t position = inputs_.past_lens[sequence] + token - inputs_.first_token(sequence);
    const float* keys = inputs_.qkv + token * qkv_width_ + attributes_.num_heads * dim_;
    const float* values = keys + attributes_.kv_num_heads * dim_;
    int64_t row = cache_row(sequence, position);
    const HeadTransform key_transform = transform(inputs_.k_norm, position);
    for (int64_t h = 0; h < attributes_.kv_num_heads; ++h, row += head_stride()) {
      kernels_.transform_head(key_transform, keys + h * dim_, 1.0f, head);
      store_row(head, inputs_.k_cache, row);
      store_row(values + h * dim_, inputs_.v_cache, row);
    }
  }

  void store_row(const float* head, void* cache, int64_t row) const {
    if (half_) {
      kernels_.to_half(head, static_cast<uint16_t*>(cache) + row, static_cast<size_t>(dim_));
    } else {
      std::copy_n(head, dim_, static_cast<float*>(cache) + row);
    }
  }

  // The block's query rows, token by token and head by head, and the keys that each sees.
  AttendRows prepare_rows(const QueryBlock& block, const Slot& slot) const {
    const float scale = attributes_.softcap > 0.0f ? attributes_.scale : attributes_.scale * kLog2E;
    const int64_t group = plan_.group();
    int64_t row = 0;
    for (int64_t i = 0; i < block.tokens; ++i) {
      const int64_t position = block.first_position + i;
      const float* heads = inputs_.qkv + token_of(block, i) * qkv_width_ + block.kv_head * group * dim_;
      const HeadTransform query_transform = transform(inputs_.q_norm, position);
      for (int64_t g = 0; g < group; ++g, ++row) {
        kernels_.transform_head(query_transform, heads + g * dim_, scale, slot.queries + row * padded_);
        slot.first[row] = plan_.first_key(position);
        slot.last[row] = position + 1;
      }
    }
    return {slot.queries, slot.first, slot.last, static_cast<int>(row), static_cast<int>(padded_), attributes_.softcap};
  }

  int64_t token_of(const QueryBlock& block, int64_t i) const {
    return inputs_.first_token(block.sequence) + block.first_token + i;
  }

  PagedRows cache_of(void* cache, int64_t kv_head) const {
    const size_t bytes = half_ ? sizeof(uint16_t) : sizeof(float);
    return {static_cast<const unsigned char*>(cache) + static_cast<size_t>(kv_head * head_stride()) * bytes, half_};
  }

  void attend(const WorkItem& item, const Slot& slot) {
    const QueryBlock& block = plan_.block(item);
    const AttendRows rows = prepare_rows(block, slot);
    const PagedLayout layout = {inputs_.block_table + block.sequence * inputs_.table_width, inputs_.block_size,
                                block_stride(), static_cast<int>(dim_)};
    const PagedRows keys = cache_of(inputs_.k_cache, block.kv_head), values = cache_of(inputs_.v_cache, block.kv_head);
    const int64_t first_key = plan_.first_key(block), last_key = AttentionPlan::last_key(block);
    for (int64_t i = 0; i < item.splits; ++i) {
      const int64_t split = item.first_split + i;
      const int64_t begin = std::max(split * kSplit, first_key), end = std::min((split + 1) * kSplit, last_key);
      const bool apart = block.first_part >= 0;
      const SoftmaxState state = apart    ? part_at(block.first_part + split - block.first_split)
                                 : i == 0 ? slot.total
                                          : slot.part;
      kernels_.attend(rows, layout, keys, values, begin, end, slot.scratch, state);
      if (!apart && i > 0) kernels_.merge(rows.rows, rows.padded_dim, state, slot.total);
    }
    if (block.first_part < 0) {
      write_output(block, slot.total);
    } else if (plan_.finish(item)) {
      const SoftmaxState total = part_at(block.first_part);
      for (int64_t i = 1; i < block.splits; ++i) {
        kernels_.merge(rows.rows, rows.padded_dim, part_at(block.first_part + i), total);
      }
      write_output(block, total);
    }
  }

  void write_output(const QueryBlock& block, const SoftmaxState& state) const {
    const int64_t group = plan_.group(), width = attributes_.num_heads * dim_;
    int64_t row = 0;
    for (int64_t i = 0; i < block.tokens; ++i) {
      float* heads = output_ + token_of(block, i) * width + block.kv_head * group * dim_;
      for (int64_t g = 0; g < group; ++g, ++row) {
        kernels_.finish(state.accumulator + row * padded_, state.sum[row], static_cast<int>(dim_), heads + g * dim_);
      }
    }
  }

  const Context& context_;
  const AttentionAttributes& attributes_;
  const AttentionInputs& inputs_;
  const bool half_;
  float* const output_;
  const Kernels& kernels_;
  const int64_t dim_, padded_, qkv_width_;
  AttentionPlan plan_;
  int64_t workers_ = 1;
  SoftmaxState parts_{};
  unsigned char* slots_ = nullptr;
};

}  // namespace

OrtStatus* run_attention(const Context& context, const AttentionAttributes& attributes, const AttentionInputs& inputs,
                         bool half_cache, float* output) {
  return AttentionRun(context, attributes, inputs, half_cache, output).run();
}

}  // namespace peregrine
