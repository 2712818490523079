// Inner loops over a row of logits: temperature, maximum, softmax weights.
//
// NOTE: products and sums are rounded one by one, never fused, so that every instruction set and the NumPy reference
// (runtime/sampling/weights.py) give the same bits.
#pragma once

#include "kernels.h"

namespace {

// Sums in double; exact for the weights below, so that the number of lanes and their order do not matter.
#if defined(PEREGRINE_AVX512)
using Sums = __m512d;
inline Sums no_sums() { return _mm512_setzero_pd(); }
inline Sums add_low(Sums s, Vec x) { return _mm512_add_pd(s, _mm512_cvtps_pd(_mm512_castps512_ps256(x))); }
inline Sums add_high(Sums s, Vec x) { return _mm512_add_pd(s, _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))); }
inline double total(Sums a, Sums b) { return _mm512_reduce_add_pd(_mm512_add_pd(a, b)); }
#elif defined(PEREGRINE_AVX2)
using Sums = __m256d;
inline Sums no_sums() { return _mm256_setzero_pd(); }
inline Sums add_low(Sums s, Vec x) { return _mm256_add_pd(s, _mm256_cvtps_pd(_mm256_castps256_ps128(x))); }
inline Sums add_high(Sums s, Vec x) { return _mm256_add_pd(s, _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))); }
inline double total(Sums a, Sums b) {
  const Sums x = _mm256_add_pd(a, b);
  const __m128d y = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
  return _mm_cvtsd_f64(_mm_add_sd(y, _mm_unpackhi_pd(y, y)));
}
#else
typedef double Sums __attribute__((vector_size(16)));
inline Sums no_sums() { return Sums{0.0, 0.0}; }
inline Sums add_low(Sums s, Vec x) { return s + Sums{x[0], x[1]}; }
inline Sums add_high(Sums s, Vec x) { return s + Sums{x[2], x[3]}; }
inline double total(Sums a, Sums b) { return (a[0] + a[1]) + (b[0] + b[1]); }
#endif

// The last, incomplete vector of a row, filled up with -inf, which has no weight and is no maximum.
inline Vec load_rest(const float* p, size_t count) {
  float padded[kLanes];
  for (size_t i = 0; i < kLanes; ++i) padded[i] = i < count ? p[i] : -__builtin_inff();
  return load(padded);
}

inline void store_rest(float* p, Vec x, size_t count) {
  float padded[kLanes];
  store(padded, x);
  for (size_t i = 0; i < count; ++i) p[i] = padded[i];
}

// A NaN is no maximum.
float temper(float* z, size_t count, float temperature) {
  Vec best[4] = {splat(-__builtin_inff()), splat(-__builtin_inff()), splat(-__builtin_inff()),
                 splat(-__builtin_inff())};
  const Vec divisor = splat(temperature);
  size_t i = 0;
  if (temperature == 1.0f) {
    for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
      for (size_t k = 0; k < 4; ++k) best[k] = max(load(z + i + k * kLanes), best[k]);
    }
    for (; i + kLanes <= count; i += kLanes) best[0] = max(load(z + i), best[0]);
    if (i < count) best[1] = max(load_rest(z + i, count - i), best[1]);
  } else {
    for (; i + kLanes <= count; i += kLanes) {
      const Vec x = div(load(z + i), divisor);
      store(z + i, x);
      best[0] = max(x, best[0]);
    }
    if (i < count) {
      const Vec x = div(load_rest(z + i, count - i), divisor);
      store_rest(z + i, x, count - i);
      best[1] = max(x, best[1]);
    }
  }
  return max_lanes(max(max(best[0], best[1]), max(best[2], best[3])));
}

// exp(x) for x <= 0 on a grid of 2^-35; NaN for NaN.
inline Vec weight_of(Vec x) {
  const Vec t = max(splat(-40.0f), mul(x, splat(kLog2E)));
  const Vec n = round_even(t);
  const Vec f = sub(t, n);
  Vec p = splat(0x1.5bba14p-10f);
  p = add(mul(p, f), splat(0x1.3cea88p-7f));
  p = add(mul(p, f), splat(0x1.c6b752p-5f));
  p = add(mul(p, f), splat(0x1.ebf9bcp-3f));
  p = add(mul(p, f), splat(0x1.62e42ap-1f));
  p = add(mul(p, f), splat(1.0f));
  const Vec weight = scale_exponent(p, n);
  // A float below 2^-12 loses what is finer than the grid when 2^-12 is added; one that is not has nothing finer.
  const Vec grid = select(less(t, splat(-12.0f)), splat(0x1p-12f), splat(0.0f));
  return sub(add(weight, grid), grid);
}

double weigh(const float* z, size_t count, float max, float* weights) {
  const Vec best = splat(max);
  Sums low = no_sums(), high = no_sums();
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vec x = weight_of(sub(load(z + i), best));
    if (weights != nullptr) store(weights + i, x);
    low = add_low(low, x);
    high = add_high(high, x);
  }
  if (i < count) {
    const Vec x = weight_of(sub(load_rest(z + i, count - i), best));
    if (weights != nullptr) store_rest(weights + i, x, count - i);
    low = add_low(low, x);
    high = add_high(high, x);
  }
  return total(low, high);
}

}  // namespace
