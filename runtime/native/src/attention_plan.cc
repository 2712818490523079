#include "attention_plan.h"

#include <algorithm>

namespace peregrine {

namespace {

// Rows that go through a tile together. More rows read keys less often, fewer spread better over threads.
constexpr int64_t kBlockRows = 96;
// Reading a key costs about as much as computing this many rows against it.
constexpr int64_t kReadCost = 4;
// Items per worker to aim at when blocks are cut.
constexpr int64_t kItemsPerWorker = 4;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

AttentionPlan::AttentionPlan(const AttentionInputs& inputs, const AttentionAttributes& attributes, int64_t workers)
    : inputs_(inputs),
      kv_heads_(attributes.kv_num_heads),
      group_(attributes.num_heads / attributes.kv_num_heads),
      head_dim_(attributes.head_dim),
      window_(attributes.sliding_window),
      workers_(workers) {
  for (int64_t s = 0; s < inputs.sequences; ++s) longest_ = std::max(longest_, inputs.new_tokens(s));
  block_tokens_ = std::min(longest_, std::max<int64_t>(1, kBlockRows / group_));
  block_heads_ = choose_heads();
  each_block([this](const QueryBlock& block) {
    ++block_count_;
    total_cost_ += block.cost;
  });
  each_block([this](const QueryBlock& block) {
    const int64_t count = pieces(block);
    item_count_ += count;
    if (count > 1) part_count_ += block.splits;
  });
}

template <class Visit>
void AttentionPlan::each_block(Visit visit) const {
  for (int64_t sequence = 0; sequence < inputs_.sequences; ++sequence) {
    const int64_t count = inputs_.new_tokens(sequence), past = inputs_.past_lens[sequence];
    for (int64_t first = 0; first < count; first += block_tokens_) {
      QueryBlock block{};
      block.sequence = sequence;
      block.first_token = first;
      block.tokens = std::min(block_tokens_, count - first);
      block.first_position = past + first;
      block.first_split = first_key(block) / kSplit;
      block.splits = divide_up(last_key(block), kSplit) - block.first_split;
      block.first_part = -1;
      const int64_t keys = last_key(block) - first_key(block);
      block.heads = block_heads_;
      block.cost = keys * (block.tokens * group_ + kReadCost) * head_dim_ * block_heads_;
      for (block.kv_head = 0; block.kv_head < kv_heads_; block.kv_head += block_heads_) visit(block);
    }
  }
}

// All KV heads together where there is work enough for every thread without cutting by heads: their rows of a cache
// block lie side by side, and memory gives them faster together.
int64_t AttentionPlan::choose_heads() const {
  if (longest_ * group_ * kv_heads_ > kBlockRows) return 1;
  int64_t splits = 0;
  for (int64_t s = 0; s < inputs_.sequences; ++s) {
    const int64_t past = inputs_.past_lens[s], last = past + inputs_.new_tokens(s);
    if (inputs_.new_tokens(s) > 0) splits += divide_up(last, kSplit) - first_key(past) / kSplit;
  }
  return workers_ <= 1 || splits >= kItemsPerWorker * workers_ ? kv_heads_ : 1;
}

int64_t AttentionPlan::pieces(const QueryBlock& block) const {
  if (workers_ <= 1 || block.splits <= 1) return 1;
  return std::min(block.splits, divide_up(block.cost * kItemsPerWorker * workers_, total_cost_));
}

void AttentionPlan::place(Carver* carver) {
  blocks_ = carver->take<QueryBlock>(static_cast<size_t>(block_count_));
  items_ = carver->take<WorkItem>(static_cast<size_t>(item_count_));
  items_left_ = carver->take<std::atomic<int64_t>>(static_cast<size_t>(block_count_));
}

void AttentionPlan::fill() {
  int64_t blocks = 0, items = 0, parts = 0;
  each_block([&](const QueryBlock& visited) {
    QueryBlock& block = blocks_[blocks] = visited;
    const int64_t count = pieces(block);
    if (count > 1) {
      block.first_part = parts;
      parts += block.splits;
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t first = block.splits * i / count, last = block.splits * (i + 1) / count;
      items_[items++] = {blocks, block.first_split + first, last - first, block.cost * (last - first) / block.splits};
    }
    items_left_[blocks++].store(count, std::memory_order_relaxed);
  });
  if (workers_ > 1) {
    // Longest first, so that no thread is left with a long item at the end.
    std::sort(items_, items_ + item_count_, [](const WorkItem& a, const WorkItem& b) {
      return a.cost != b.cost ? a.cost > b.cost : a.block < b.block;
    });
  }
}

}  // namespace peregrine
