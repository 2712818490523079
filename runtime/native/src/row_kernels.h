// Work on single rows: normalisation, rotation, conversion, gating.
#pragma once

#include "kernels.h"

namespace {

inline int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

void transform_head(const peregrine::HeadTransform& t, const float* input, float scale, float* head) {
  const int padded = round_up(t.dim, kLanes);
  __builtin_memcpy(head, input, static_cast<size_t>(t.dim) * sizeof(float));
  for (int i = t.dim; i < padded; ++i) head[i] = 0.0f;
  if (t.norm != nullptr) {
    Vec squares = splat(0.0f);
    for (int i = 0; i < padded; i += kLanes) squares = fma(load(head + i), load(head + i), squares);
    const float mean = sum_lanes(squares) / static_cast<float>(t.dim);
    const float inverse = 1.0f / __builtin_sqrtf(mean + t.norm_eps);
    for (int i = 0; i < t.dim; ++i) head[i] = head[i] * inverse * t.norm[i];
  }
  // NOTE: the pairs (i, i + half) are those of a head split in two, not interleaved ones.
  const int half = t.rotary_dim / 2;
  float* low = head;
  float* high = head + half;
  int i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const Vec a = load(low + i), b = load(high + i), cos = load(t.cos + i), sin = load(t.sin + i);
    store(low + i, sub(mul(a, cos), mul(b, sin)));
    store(high + i, add(mul(b, cos), mul(a, sin)));
  }
  for (; i < half; ++i) {
    const float a = low[i], b = high[i];
    low[i] = a * t.cos[i] - b * t.sin[i];
    high[i] = b * t.cos[i] + a * t.sin[i];
  }
  if (scale != 1.0f) {
    for (int i = 0; i < padded; i += kLanes) store(head + i, mul(load(head + i), splat(scale)));
  }
}

template <class From, class To>
void convert(const From* input, To* output, size_t count) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(output + i, load(input + i));
  if (i == count) return;
  From from[kLanes] = {};
  To to[kLanes];
  for (size_t j = i; j < count; ++j) from[j - i] = input[j];
  store(to, load(from));
  for (size_t j = i; j < count; ++j) output[j] = to[j - i];
}

inline Vec silu_mul_of(Vec gate, Vec up) {
  const Vec one = splat(1.0f);
  const Vec denominator = add(one, exp_of(sub(splat(0.0f), gate)));
  return mul(div(gate, denominator), up);
}

void silu_mul(const float* gate, const float* up, float* output, size_t count) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(output + i, silu_mul_of(load(gate + i), load(up + i)));
  if (i == count) return;
  float g[kLanes] = {}, u[kLanes] = {}, o[kLanes];
  for (size_t j = i; j < count; ++j) {
    g[j - i] = gate[j];
    u[j - i] = up[j];
  }
  store(o, silu_mul_of(load(g), load(u)));
  for (size_t j = i; j < count; ++j) output[j] = o[j - i];
}

}  // namespace
