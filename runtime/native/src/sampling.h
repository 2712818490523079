// Sampling for a batch of rows of logits: the pipeline of runtime/sampling/reference.py, token for token.
#pragma once

#include <cstdint>

namespace peregrine {

// One row's parameters; runtime/sampling/native_rows.py has the same layout.
struct SamplingRow {
  uint64_t seed;
  int64_t sample;
  int64_t generated;  // tokens so far
  int64_t min_new_tokens;
  int64_t decay_start;
  double log_decay;  // natural logarithm of the decay factor; 0 is off
  double top_p;
  int64_t top_k;  // -1 keeps all, 1 is greedy
  double frequency_penalty;
  float repetition_penalty;
  float presence_penalty;
  float temperature;
  int32_t filtered;        // top_p or top_k removes tokens
  const int64_t* counted;  // distinct tokens that penalties apply to
  const int64_t* counts;   // occurrences of each
  int64_t counted_length;
  const int64_t* allowed;  // none: all are
  int64_t allowed_length;
  const uint32_t* mask;  // [ceil(vocab / 32)], the lowest bit first: what a grammar allows; null: everything
};
static_assert(sizeof(SamplingRow) == 8 * 9 + 16 + 8 * 6, "the layout that Python packs");

struct SamplingBatch {
  float* logits;  // [rows][vocab]; modified
  int64_t vocab;
  const SamplingRow* table;
  const int64_t* rows;    // [count]: the place in the table
  const int64_t* places;  // [count]: the row of logits
  int64_t count;
  const int64_t* eos;
  int64_t eos_count;
};

// tokens[i] <- the token drawn for rows[i], or -1 if its logits are not finite; logprobs[i] <- its log-probability.
// False if memory ran out.
bool sample_batch(const SamplingBatch&, int threads, int64_t* tokens, double* logprobs);

}  // namespace peregrine
