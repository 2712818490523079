// The online softmax (Milakov and Gimelshein 2018): weights of a row relative to its running maximum.
#pragma once

#include "attention_arithmetic.h"
#include "row_kernels.h"
#include "vector_math.h"

namespace {

using peregrine::kTile;
using peregrine::SoftmaxState;

constexpr float kNegativeInfinity = -__builtin_inff();

// Hides the keys before `first` and from `last` on, within the vectors of [begin, end).
inline void hide(float* scores, int begin, int first, int last, int end) {
  for (int j = begin; j < first; ++j) scores[j] = kNegativeInfinity;
  for (int j = last; j < end; ++j) scores[j] = kNegativeInfinity;
}

inline void clear(const SoftmaxState& state, float* sums, int rows, int padded) {
  for (int r = 0; r < rows; ++r) {
    state.max[r] = kNegativeInfinity;
    store(sums + r * kLanes, splat(0.0f));
  }
  const int64_t count = static_cast<int64_t>(rows) * padded;
  for (int64_t i = 0; i < count; i += kLanes) store(state.accumulator + i, splat(0.0f));
}

// Turns the row's scores of keys [first, last) into weights relative to the new maximum, packs these as operands and
// updates the row's state, where weights are summed lane by lane.
template <class Math, class Fetch>
void softmax_row(float* scores, int first, int last, float softcap, const SoftmaxState& state, float* sums, int row,
                 int padded, typename Math::Operand* weights, Fetch& fetcher) {
  constexpr int kStep = kLanes * Math::kPack;
  const int begin = first / kStep * kStep, end = round_up(last, kStep);
  if (softcap != 0.0f) {
    const Vec inverse = splat(1.0f / softcap), cap = splat(softcap * kLog2E);
    for (int j = first / kLanes * kLanes; j < last; j += kLanes) {
      store(scores + j, mul(cap, tanh_of(mul(load(scores + j), inverse))));
    }
  }
  hide(scores, begin, first, last, end);
  Vec highest = splat(state.max[row]);
  for (int j = begin; j < end; j += kLanes) highest = max(highest, load(scores + j));
  const float maximum = max_lanes(highest);
  Vec sum = load(sums + row * kLanes);
  if (state.max[row] != maximum) {
    const Vec rescale = splat(exp2_weight(state.max[row] - maximum));
    state.max[row] = maximum;
    sum = mul(sum, rescale);
    float* accumulator = state.accumulator + static_cast<int64_t>(row) * padded;
    for (int d = 0; d < padded; d += kLanes) store(accumulator + d, mul(load(accumulator + d), rescale));
  }
  for (int j = begin; j < end; j += kStep) {
    fetcher.fetch();
    Vec weight[Math::kPack];
    PEREGRINE_UNROLL
    for (int i = 0; i < Math::kPack; ++i) {
      weight[i] = exp2_weight(sub(load(scores + j + i * kLanes), splat(maximum)));
      sum = add(sum, weight[i]);
    }
    Math::pack(weight, weights + j / Math::kPack);
  }
  store(sums + row * kLanes, sum);
}

void merge(int rows, int padded, const SoftmaxState& part, const SoftmaxState& total) {
  for (int r = 0; r < rows; ++r) {
    if (part.sum[r] == 0.0f) continue;
    float* to = total.accumulator + static_cast<int64_t>(r) * padded;
    const float* from = part.accumulator + static_cast<int64_t>(r) * padded;
    if (total.sum[r] == 0.0f) {
      // Copied, not added to nothing: that would turn -0 into +0 for rows whose window starts in a later split.
      total.max[r] = part.max[r];
      total.sum[r] = part.sum[r];
      for (int d = 0; d < padded; d += kLanes) store(to + d, load(from + d));
      continue;
    }
    const float maximum = total.max[r] < part.max[r] ? part.max[r] : total.max[r];
    const float keep = exp2_weight(total.max[r] - maximum), take = exp2_weight(part.max[r] - maximum);
    total.max[r] = maximum;
    total.sum[r] = total.sum[r] * keep + part.sum[r] * take;
    for (int d = 0; d < padded; d += kLanes) {
      store(to + d, fma(load(from + d), splat(take), mul(load(to + d), splat(keep))));
    }
  }
}

void finish(const float* accumulator, float sum, int dim, float* output) {
  const float inverse = 1.0f / sum;
  for (int d = 0; d < dim; ++d) output[d] = accumulator[d] * inverse;
}

}  // namespace
