// AVX-512 with VNNI: 16 columns in a vector.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

constexpr int kColumns = 16;  // of the result in a vector
constexpr int kVectors = 2;   // that are computed together
constexpr int kRows = 6;      // most of a panel: 12 integer and 12 float sums of 32 registers
constexpr int kBias = 0;

using Ints = __m512i;
using Floats = __m512;

inline Ints load_levels(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline Ints low_half(Ints x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
inline Ints high_half(Ints x) { return _mm512_and_si512(_mm512_srli_epi16(x, 4), _mm512_set1_epi8(15)); }
inline Ints splat(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints dot8(Ints sum, Ints levels, Ints x) { return _mm512_dpbusd_epi32(sum, levels, x); }
inline Ints dot4(Ints sum, Ints levels, Ints x) { return _mm512_dpbusd_epi32(sum, levels, x); }

inline Floats splat(float x) { return _mm512_set1_ps(x); }
inline Floats load(const float* p) { return _mm512_loadu_ps(p); }
inline Floats load(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
inline Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

// The largest magnitude's bits: not a number is above infinity.
inline uint32_t peak_bits(const float* x, int count) {
  __m512i most = _mm512_setzero_si512();
  for (int i = 0; i < count; i += 16) {
    most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_loadu_si512(x + i), _mm512_set1_epi32(0x7fffffff)));
  }
  return _mm512_reduce_max_epu32(most);
}

// values <- round(x * inverse); returns their sum.
inline int32_t round_group(const float* x, float inverse, int count, int8_t* values) {
  __m512i sum = _mm512_setzero_si512();
  for (int i = 0; i < count; i += 16) {
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(inverse)));
    sum = _mm512_add_epi32(sum, rounded);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(values + i), _mm512_cvtepi32_epi8(rounded));
  }
  return _mm512_reduce_add_epi32(sum);
}

}  // namespace
