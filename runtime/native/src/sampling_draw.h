// Draws a token from a row of adjusted logits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sampling.h"

namespace peregrine {

// Logits that are looked at together. Sums of weights are exact, so nothing but speed depends on it.
constexpr int64_t kSamplingBlock = 1024;

// A token that top-p and top-k may keep.
struct Candidate {
  float logit;
  float weight;
  int32_t id;
};

// Room for one row.
struct DrawScratch {
  double* block_sums;   // [blocks]
  float* block_maxima;  // [blocks]
  // The following only where a row is filtered.
  float* logits;           // [vocab]
  float* weights;          // [vocab]
  Candidate* candidates;   // [vocab]
  Candidate* partitioned;  // [vocab]
};

// What is known of a row of logits when it comes to drawing.
struct WeighedRow {
  const float* z;
  int64_t vocab;
  float max;
  double total;
};

// The number in [0, 1) of a request's sample at a position of its output (runtime/sampling/philox.py).
double uniform_of(uint64_t seed, uint64_t sample, uint64_t position);

// The first token whose logit is the maximum.
int64_t best_token(const WeighedRow&, const DrawScratch&);

// A token from the whole row.
int64_t draw_any(const WeighedRow&, const DrawScratch&, double uniform);

// A token from what top-p and top-k keep.
int64_t draw_filtered(const WeighedRow&, const DrawScratch&, const SamplingRow&, double uniform);

}  // namespace peregrine
