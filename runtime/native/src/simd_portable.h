// Four lanes in the vector extension of GCC and Clang: SSE2 or NEON, or plain scalars where there is neither.
#pragma once

#include <cstdint>

#include "half.h"

namespace {

constexpr int kLanes = 4;
constexpr int kRowGroup = 3;

typedef float Vec __attribute__((vector_size(16)));
typedef int32_t Mask __attribute__((vector_size(16)));

inline Vec splat(float x) { return Vec{x, x, x, x}; }
inline Vec load(const float* p) {
  Vec x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
inline void store(float* p, Vec x) { __builtin_memcpy(p, &x, sizeof x); }
inline void store(uint16_t* p, Vec x) {
  for (int i = 0; i < kLanes; ++i) p[i] = half_of(x[i]);
}
inline Vec add(Vec a, Vec b) { return a + b; }
inline Vec sub(Vec a, Vec b) { return a - b; }
inline Vec mul(Vec a, Vec b) { return a * b; }
inline Vec div(Vec a, Vec b) { return a / b; }
// Two roundings: there is no fused instruction to be relied upon.
inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Mask less(Vec a, Vec b) { return a < b; }
inline Mask select(Mask m, Mask yes, Mask no) { return (m & yes) | (~m & no); }
inline Vec select(Mask m, Vec yes, Vec no) {
  return reinterpret_cast<Vec>(select(m, reinterpret_cast<Mask>(yes), reinterpret_cast<Mask>(no)));
}
// A NaN in b is returned.
inline Vec max(Vec a, Vec b) { return select(b < a, a, b); }
inline Vec min(Vec a, Vec b) { return select(a < b, a, b); }
inline Vec abs(Vec a) { return reinterpret_cast<Vec>(reinterpret_cast<Mask>(a) & 0x7fffffff); }
// For |a| < 2^22: the sum has no room for a fraction.
inline Vec round_even(Vec a) {
  const Vec big = splat(0x1.8p23f);
  return (a + big) - big;
}
// x * 2^n for integral n in [-127, 128]; -127 gives 0.
inline Vec scale_exponent(Vec x, Vec n) {
  const Mask biased = __builtin_convertvector(n, Mask) + 127;
  return x * reinterpret_cast<Vec>(biased << 23);
}

// binary16 to float without a branch; subnormal halves by a subtraction, so that no subnormal float is met.
inline Vec load(const uint16_t* p) {
  const Mask half = {p[0], p[1], p[2], p[3]};
  const Mask shifted = (half & 0x7fff) << 13, sign = (half & 0x8000) << 16;
  const Mask normal = shifted + (112 << 23);
  const Vec smallest = splat(0x1p-14f);
  const Mask subnormal = reinterpret_cast<Mask>(reinterpret_cast<Vec>(shifted + (113 << 23)) - smallest);
  const Mask quiet = ((half & 0x3ff) != 0) & 0x400000;
  const Mask special = (shifted + (224 << 23)) | quiet;
  const Mask exponent = half & 0x7c00;
  return reinterpret_cast<Vec>(sign | select(exponent == 0, subnormal, select(exponent == 0x7c00, special, normal)));
}

inline float first_lane(Vec a) { return a[0]; }
inline float sum_lanes(Vec a) { return (a[0] + a[2]) + (a[1] + a[3]); }
inline float max_lanes(Vec a) {
  const float x = a[0] > a[2] ? a[0] : a[2];
  const float y = a[1] > a[3] ? a[1] : a[3];
  return x > y ? x : y;
}

// p[0..3] <- the sums of a, b, c and d.
inline void store_sums(float* p, Vec a, Vec b, Vec c, Vec d) {
  const Vec low = Vec{a[0], b[0], c[0], d[0]} + Vec{a[2], b[2], c[2], d[2]};
  const Vec high = Vec{a[1], b[1], c[1], d[1]} + Vec{a[3], b[3], c[3], d[3]};
  store(p, low + high);
}

}  // namespace
