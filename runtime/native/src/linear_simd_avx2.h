// AVX2 with FMA and F16C: 8 columns in a vector. With PEREGRINE_VNNI also AVX-VNNI.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

constexpr int kColumns = 8;
constexpr int kVectors = 2;
constexpr int kRows = 2;  // 4 integer and 4 float sums, levels and activations of 16 registers

using Ints = __m256i;
using Floats = __m256;

inline Ints load_levels(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline Ints low_half(Ints x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
inline Ints high_half(Ints x) { return _mm256_and_si256(_mm256_srli_epi16(x, 4), _mm256_set1_epi8(15)); }
inline Ints splat(int32_t x) { return _mm256_set1_epi32(x); }

#if defined(PEREGRINE_VNNI)
constexpr int kBias = 0;
inline Ints dot8(Ints sum, Ints levels, Ints x) { return _mm256_dpbusd_avx_epi32(sum, levels, x); }
inline Ints dot4(Ints sum, Ints levels, Ints x) { return _mm256_dpbusd_avx_epi32(sum, levels, x); }
#else
constexpr int kBias = 128;
inline Ints add_pairs(Ints sum, Ints pairs) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
// NOTE: pairs are added in 16 bits with saturation, which 2 * 128 * 127 just does not reach; unsigned levels would.
inline Ints dot8(Ints sum, Ints levels, Ints x) {
  const Ints centred = _mm256_xor_si256(levels, _mm256_set1_epi8(-128));
  return add_pairs(sum, _mm256_maddubs_epi16(_mm256_abs_epi8(centred), _mm256_sign_epi8(x, centred)));
}
inline Ints dot4(Ints sum, Ints levels, Ints x) { return add_pairs(sum, _mm256_maddubs_epi16(levels, x)); }
#endif

inline Floats splat(float x) { return _mm256_set1_ps(x); }
inline Floats load(const float* p) { return _mm256_loadu_ps(p); }
inline Floats load(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
inline Floats to_floats(Ints x) { return _mm256_cvtepi32_ps(x); }
inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

// The largest magnitude's bits: not a number is above infinity.
inline uint32_t peak_bits(const float* x, int count) {
  Ints most = _mm256_setzero_si256();
  for (int i = 0; i < count; i += 8) {
    const Ints bits = _mm256_castps_si256(_mm256_loadu_ps(x + i));
    most = _mm256_max_epu32(most, _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)));
  }
  __m128i half = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
  half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(half));
}

inline Ints rounded_at(const float* x, Floats inverse) {
  return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
}

// values <- round(x * inverse); returns their sum.
inline int32_t round_group(const float* x, float inverse, int count, int8_t* values) {
  const Floats factor = _mm256_set1_ps(inverse);
  Ints sum = _mm256_setzero_si256();
  for (int i = 0; i < count; i += 32) {
    const Ints a = rounded_at(x + i, factor), b = rounded_at(x + i + 8, factor);
    const Ints c = rounded_at(x + i + 16, factor), d = rounded_at(x + i + 24, factor);
    sum = _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d)));
    const Ints bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    const Ints order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<Ints*>(values + i), _mm256_permutevar8x32_epi32(bytes, order));
  }
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
  return _mm_cvtsi128_si32(half);
}

}  // namespace
