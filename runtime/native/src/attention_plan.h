// How the work of a call is cut up. None of it enters the arithmetic: see kTile and kSplit.
#pragma once

#include <atomic>

#include "attention_inputs.h"
#include "kernels.h"
#include "workspace.h"

namespace peregrine {

// Consecutive new tokens of a sequence with all query heads of one KV head or of several.
struct QueryBlock {
  int64_t sequence;
  int64_t kv_head, heads;       // KV heads
  int64_t first_token, tokens;  // of the sequence's new tokens
  int64_t first_position;       // of the first token
  int64_t first_split, splits;  // of the keys that any of its rows sees
  int64_t first_part;           // >= 0: its splits are computed apart, in parts from here on
  int64_t cost;
};

// One unit of work: some splits of a block, in order.
struct WorkItem {
  int64_t block;
  int64_t first_split, splits;
  int64_t cost;
};

class AttentionPlan {
 public:
  // Lays out the call for at most `workers` threads.
  AttentionPlan(const AttentionInputs& inputs, const AttentionAttributes& attributes, int64_t workers);

  // Counts or places the arrays, and then fills them.
  void place(Carver* carver);
  void fill();

  // Whether the sequence's new tokens make more than one query block.
  bool is_long(int64_t sequence) const { return inputs_.new_tokens(sequence) > block_tokens_; }
  bool any_long() const { return longest_ > block_tokens_; }

  int64_t group() const { return group_; }
  int64_t max_rows() const { return block_tokens_ * group_ * block_heads_; }
  int64_t total_cost() const { return total_cost_; }
  int64_t item_count() const { return item_count_; }
  int64_t part_count() const { return part_count_; }

  // The first key that the token at `position` sees.
  int64_t first_key(int64_t position) const { return window_ > 0 && position >= window_ ? position - window_ + 1 : 0; }
  // The keys [first, last) that the block's rows see.
  int64_t first_key(const QueryBlock& block) const { return first_key(block.first_position); }
  static int64_t last_key(const QueryBlock& block) { return block.first_position + block.tokens; }

  const QueryBlock& block(const WorkItem& item) const { return blocks_[item.block]; }
  const WorkItem& item(int64_t index) const { return items_[index]; }
  // True for the last of a block's items to be finished.
  bool finish(const WorkItem& item) { return items_left_[item.block].fetch_sub(1, std::memory_order_acq_rel) == 1; }

 private:
  template <class Visit>
  void each_block(Visit visit) const;
  int64_t pieces(const QueryBlock& block) const;
  int64_t choose_heads() const;

  const AttentionInputs& inputs_;
  const int64_t kv_heads_, group_, head_dim_, window_, workers_;
  int64_t longest_ = 1, block_tokens_ = 1, block_heads_ = 1;
  int64_t total_cost_ = 0, block_count_ = 0, item_count_ = 0, part_count_ = 0;
  QueryBlock* blocks_ = nullptr;
  WorkItem* items_ = nullptr;
  std::atomic<int64_t>* items_left_ = nullptr;  // of each block
};

}  // namespace peregrine
