// Four columns in the vector extension of GCC and Clang.
#pragma once

#include <cstdint>

namespace {

constexpr int kColumns = 4;
constexpr int kVectors = 2;
constexpr int kRows = 2;
constexpr int kBias = 0;

typedef int32_t Ints __attribute__((vector_size(16)));
typedef float Floats __attribute__((vector_size(16)));

inline Ints load_levels(const uint8_t* p) {
  Ints x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
inline Ints low_half(Ints x) { return x & 0x0f0f0f0f; }
inline Ints high_half(Ints x) { return (x >> 4) & 0x0f0f0f0f; }
inline Ints splat(int32_t x) { return Ints{x, x, x, x}; }

// Lane by lane, the products of four unsigned with four signed bytes. The integers that hold them are little-endian.
inline Ints dot8(Ints sum, Ints levels, Ints x) {
  sum += (levels & 255) * (x << 24 >> 24);
  sum += (levels >> 8 & 255) * (x << 16 >> 24);
  sum += (levels >> 16 & 255) * (x << 8 >> 24);
  return sum + (levels >> 24 & 255) * (x >> 24);
}
inline Ints dot4(Ints sum, Ints levels, Ints x) { return dot8(sum, levels, x); }

inline Floats splat(float x) { return Floats{x, x, x, x}; }
inline Floats load(const float* p) {
  Floats x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
// Scales are finite.
inline Floats load(const uint16_t* p) {
  const Ints half = {p[0], p[1], p[2], p[3]};
  const Ints sign = (half & 0x8000) << 16, magnitude = (half & 0x7fff) << 13;
  // 2^112 moves the exponent, subnormal halves included.
  const Floats value = reinterpret_cast<Floats>(magnitude) * 0x1p112f;
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(value) | sign);
}
inline void store(float* p, Floats x) { __builtin_memcpy(p, &x, sizeof x); }
inline Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }
inline Floats add(Floats a, Floats b) { return a + b; }
inline Floats mul(Floats a, Floats b) { return a * b; }
// One rounding, as the other instruction sets have it: a call of libm where the processor's baseline has no such thing.
inline Floats fma(Floats a, Floats b, Floats c) {
  return Floats{__builtin_fmaf(a[0], b[0], c[0]), __builtin_fmaf(a[1], b[1], c[1]), __builtin_fmaf(a[2], b[2], c[2]),
                __builtin_fmaf(a[3], b[3], c[3])};
}

inline void prefetch(const void* p) { __builtin_prefetch(p); }

// The largest magnitude's bits: not a number is above infinity.
inline uint32_t peak_bits(const float* x, int count) {
  uint32_t most = 0;
  for (int i = 0; i < count; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, x + i, sizeof bits);
    bits &= 0x7fffffff;
    most = bits > most ? bits : most;
  }
  return most;
}

// values <- round(x * inverse), of which no magnitude is above 127; returns their sum.
inline int32_t round_group(const float* x, float inverse, int count, int8_t* values) {
  int32_t sum = 0;
  for (int i = 0; i < count; ++i) {
    const float big = 0x1.8p23f, rounded = (x[i] * inverse + big) - big;
    values[i] = static_cast<int8_t>(rounded);
    sum += values[i];
  }
  return sum;
}

}  // namespace
