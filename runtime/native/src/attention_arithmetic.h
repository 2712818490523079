// The arithmetic of attention over each kind of cache: what the inner loops multiply, and how it is laid out for them.
//
// An operand is what one 32-bit lane holds: a float, or a pair of bfloat16 values that are multiplied and summed with
// the pair of the other side. With a bfloat16 cache queries and weights are rounded to bfloat16 in either form, so that
// every product is exact and the forms differ by the roundings of sums alone.
#pragma once

#include "kernels.h"

#if defined(__clang__)
#define PEREGRINE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define PEREGRINE_UNROLL _Pragma("GCC unroll 16")
#endif

namespace {

// One float per operand, converted from the cache's elements.
template <class CacheElement>
struct Floats {
  using Element = CacheElement;
  using Operand = float;
  using Lanes = Vec;
  static constexpr int kPack = 1;
  static constexpr bool kRounds = __is_same(Element, peregrine::Bfloat);

  static Lanes broadcast(const Operand* p) { return splat(*p); }
  static Lanes load_operands(const Operand* p) { return load(p); }
  static Vec multiply_add(Vec sum, Lanes a, Lanes b) { return fma(a, b, sum); }
  // kLanes operands of a row, as their bits.
  static Vec load_row(const Element* row) { return load(row); }
  // kLanes * kPack floats become kLanes operands.
  static void pack(const Vec (&values)[kPack], Operand* operands) {
    store(operands, kRounds ? round_bfloat(values[0]) : values[0]);
  }
  // Operands of kPack rows for kLanes columns.
  static void zip_rows(const Element* const* rows, int column, Operand* operands) {
    store(operands, load(rows[0] + column));
  }
  static Lanes keep(Lanes x, bool, bool) { return x; }
};

#if defined(PEREGRINE_BFLOAT_DOT)
// Two bfloat16 values per operand, for VDPBF16PS.
struct BfloatPairs {
  using Element = peregrine::Bfloat;
  using Operand = uint32_t;
  using Lanes = __m512i;
  static constexpr int kPack = 2;

  static Lanes broadcast(const Operand* p) { return _mm512_set1_epi32(static_cast<int>(*p)); }
  static Lanes load_operands(const Operand* p) { return _mm512_loadu_si512(p); }
  static Vec multiply_add(Vec sum, Lanes a, Lanes b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  static Vec load_row(const Element* row) { return _mm512_loadu_ps(row); }
  static void pack(const Vec (&values)[kPack], Operand* operands) {
    const __m512bh pairs = _mm512_cvtne2ps_pbh(values[1], values[0]);
    _mm512_storeu_si512(operands, reinterpret_cast<__m512i>(pairs));
  }
  static void zip_rows(const Element* const* rows, int column, Operand* operands) {
    const __m512i even = _mm512_cvtepu16_epi32(load_half(rows[0] + column));
    const __m512i odd = _mm512_cvtepu16_epi32(load_half(rows[1] + column));
    _mm512_storeu_si512(operands, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
  }
  // Zeros in place of the first or second of every pair.
  static Lanes keep(Lanes x, bool first, bool second) {
    const uint32_t mask = (first ? 0xffffu : 0u) | (second ? 0xffff0000u : 0u);
    return _mm512_and_si512(x, _mm512_set1_epi32(static_cast<int>(mask)));
  }

 private:
  static __m256i load_half(const Element* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
};
using Bfloats = BfloatPairs;
#else
using Bfloats = Floats<peregrine::Bfloat>;
#endif

}  // namespace
