#include "sampling_draw.h"

#include <algorithm>
#include <cmath>

#include "isa.h"

namespace peregrine {

namespace {

constexpr uint64_t kLowWord = 0xFFFFFFFF;

// How far below the maximum candidates are sought; farther only where those are not enough.
constexpr float kReaches[] = {2.5f, 5.0f, 8.0f, 12.0f, INFINITY};

// Ranks are by falling logit, equal logits by rising id.
bool precedes(const Candidate& a, const Candidate& b) {
  return (a.logit > b.logit) | ((a.logit == b.logit) & (a.id < b.id));
}

struct Survivors {
  Candidate last;
  double mass;
};

// The last of the survivors and the weight of all of them. A candidate goes when the weight before it exceeds `limit`
// or its rank is `top_k` or more. Quickselect: sums are exact, so the result does not depend on the pivots.
Survivors find_survivors(Candidate* items, int64_t count, double limit, int64_t top_k) {
  Survivors found{{}, 0.0};
  int64_t low = 0, high = count;
  uint64_t state = 1;
  while (low < high) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::swap(items[low + static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(high - low))], items[high - 1]);
    const Candidate pivot = items[high - 1];
    int64_t split = low;
    double before = found.mass;
    for (int64_t i = low; i < high - 1; ++i) {
      const bool first = precedes(items[i], pivot);
      before += first ? static_cast<double>(items[i].weight) : 0.0;
      std::swap(items[i], items[split]);
      split += first;
    }
    std::swap(items[split], items[high - 1]);
    if (before <= limit && (top_k <= 0 || split < top_k)) {
      found = {pivot, before + static_cast<double>(pivot.weight)};
      low = split + 1;
    } else {
      high = split;
    }
  }
  return found;
}

// Copies the tokens within `reach` of the maximum, in order of their ids; returns how many.
int64_t gather(const WeighedRow& row, const DrawScratch& scratch, float reach) {
  const float lowest = row.max - reach;
  int64_t count = 0;
  for (int64_t begin = 0, block = 0; begin < row.vocab; begin += kSamplingBlock, ++block) {
    if (scratch.block_maxima[block] < lowest) continue;
    const int64_t end = std::min(row.vocab, begin + kSamplingBlock);
    for (int64_t id = begin; id < end; ++id) {
      scratch.logits[count] = row.z[id];
      scratch.candidates[count].id = static_cast<int32_t>(id);
      count += row.z[id] >= lowest;
    }
  }
  return count;
}

}  // namespace

double uniform_of(uint64_t seed, uint64_t sample, uint64_t position) {
  uint64_t c0 = position, c1 = sample, c2 = 0, c3 = 0;
  uint64_t k0 = seed & kLowWord, k1 = seed >> 32;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53u * c0, p1 = 0xCD9E8D57u * c2;
    const uint64_t n0 = (p1 >> 32) ^ c1 ^ k0, n2 = (p0 >> 32) ^ c3 ^ k1;
    c1 = p1 & kLowWord;
    c3 = p0 & kLowWord;
    c0 = n0;
    c2 = n2;
    k0 = (k0 + 0x9E3779B9u) & kLowWord;
    k1 = (k1 + 0xBB67AE85u) & kLowWord;
  }
  return static_cast<double>((c0 << 21) | (c1 >> 11)) * 0x1p-53;
}

int64_t best_token(const WeighedRow& row, const DrawScratch& scratch) {
  int64_t block = 0;
  while (scratch.block_maxima[block] != row.max) ++block;
  int64_t token = block * kSamplingBlock;
  while (row.z[token] != row.max) ++token;
  return token;
}

int64_t draw_any(const WeighedRow& row, const DrawScratch& scratch, double uniform) {
  const double target = uniform * row.total;
  const int64_t last_block = (row.vocab - 1) / kSamplingBlock;
  double mass = 0.0;
  int64_t block = 0;
  for (; block < last_block && mass + scratch.block_sums[block] <= target; ++block) mass += scratch.block_sums[block];
  const int64_t begin = block * kSamplingBlock;
  const int64_t count = std::min(row.vocab - begin, kSamplingBlock);
  float weights[kSamplingBlock];
  active_kernels()->weigh(row.z + begin, static_cast<size_t>(count), row.max, weights);
  for (int64_t i = 0; i < count; ++i) {
    mass += static_cast<double>(weights[i]);
    if (mass > target) return begin + i;
  }
  return row.vocab - 1;
}

int64_t draw_filtered(const WeighedRow& row, const DrawScratch& scratch, const SamplingRow& params, double uniform) {
  const double limit = params.top_p * row.total;
  int64_t count = 0;
  for (const float reach : kReaches) {
    count = gather(row, scratch, reach);
    const double mass =
        active_kernels()->weigh(scratch.logits, static_cast<size_t>(count), row.max, scratch.weights);
    if ((params.top_k > 0 && count >= params.top_k) || mass > limit) break;
  }
  for (int64_t i = 0; i < count; ++i) {
    scratch.candidates[i].logit = scratch.logits[i];
    scratch.candidates[i].weight = scratch.weights[i];
  }
  std::copy(scratch.candidates, scratch.candidates + count, scratch.partitioned);
  const Survivors kept = find_survivors(scratch.partitioned, count, limit, params.top_k);
  const double target = uniform * kept.mass;
  double mass = 0.0;
  int64_t token = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (precedes(kept.last, scratch.candidates[i])) continue;
    token = scratch.candidates[i].id;
    mass += static_cast<double>(scratch.candidates[i].weight);
    if (mass > target) break;
  }
  return token;
}

}  // namespace peregrine
