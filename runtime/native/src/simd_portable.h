// Four lanes in the vector extension of GCC and Clang: SSE2 or NEON, or plain scalars where there is neither.
#pragma once

#include <cstdint>

#include "half.h"
#include "kernels.h"

namespace {

constexpr int kLanes = 4;
constexpr int kRowGroup = 3;

typedef float Vec __attribute__((vector_size(16)));
typedef int32_t Mask __attribute__((vector_size(16)));
typedef uint32_t Bits __attribute__((vector_size(16)));

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

// The nearest bfloat16, as a float; ties to even, a NaN stays one.
inline Vec round_bfloat(Vec x) {
  const Bits bits = reinterpret_cast<Bits>(x);
  const Bits rounded = bits + 0x7fffu + (bits >> 16 & 1u);
  const Mask quiet = reinterpret_cast<Mask>(bits | 0x400000u), nan = x != x;
  return reinterpret_cast<Vec>(select(nan, quiet, reinterpret_cast<Mask>(rounded)) & -0x10000);
}
// The first and the second values of kLanes pairs.
inline void load_pairs(const peregrine::Bfloat* p, Vec* first, Vec* second) {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first of a pair is its lower half");
  Bits pairs;
  __builtin_memcpy(&pairs, p, sizeof pairs);
  *first = reinterpret_cast<Vec>(pairs << 16);
  *second = reinterpret_cast<Vec>(pairs & 0xffff0000u);
}
inline void store(peregrine::Bfloat* p, Vec x) {
  const Vec rounded = round_bfloat(x);
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<peregrine::Bfloat>(bits_of(rounded[i]) >> 16);
}
// x << 23: moves an exponent that was added to a large float into its place.
inline Vec shift_to_exponent(Vec x) { return reinterpret_cast<Vec>(reinterpret_cast<Bits>(x) << 23); }

inline float first_lane(Vec a) { return a[0]; }
inline float sum_lanes(Vec a) { return (a[0] + a[2]) + (a[1] + a[3]); }
inline float max_lanes(Vec a) {
  const float x = a[0] > a[2] ? a[0] : a[2];
  const float y = a[1] > a[3] ? a[1] : a[3];
  return x > y ? x : y;
}

}  // namespace
