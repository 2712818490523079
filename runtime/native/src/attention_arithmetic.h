// The arithmetic of attention over each kind of cache.
//
// A unit is what one lane multiplies at a time: one element, or a pair of bfloat16 values that are multiplied and
// summed with the pair of the other side. With a bfloat16 cache queries and weights are rounded to bfloat16, so that
// every product is exact and instruction sets differ by the roundings of sums alone.
#pragma once

#include "kernels.h"

#if defined(__clang__)
#define PEREGRINE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define PEREGRINE_UNROLL _Pragma("GCC unroll 16")
#endif

namespace {

// One element per unit, multiplied as a float.
template <class CacheElement>
struct Floats {
  using Element = CacheElement;
  using Operand = float;  // a unit of a query or of weights
  using Lanes = Vec;
  static constexpr int kPack = 1;

  static Lanes broadcast(const Operand* p) { return splat(*p); }
  // kLanes units of the cache.
  static Lanes load_units(const Element* p) { return load(p); }
  static Vec multiply_add(Vec sum, Lanes a, Lanes b) { return fma(a, b, sum); }
  // kLanes * kPack floats become kLanes operands.
  static void pack(const Vec (&values)[kPack], Operand* operands) { store(operands, values[0]); }
  static Lanes keep(Lanes x, bool, bool) { return x; }
};

#if defined(PEREGRINE_BFLOAT_DOT)
// Pairs of bfloat16 for VDPBF16PS.
struct Bfloats {
  using Element = peregrine::Bfloat;
  using Operand = uint32_t;
  using Lanes = __m512i;
  static constexpr int kPack = 2;

  static Lanes broadcast(const Operand* p) { return _mm512_set1_epi32(static_cast<int>(*p)); }
  static Lanes load_units(const Element* p) { return _mm512_loadu_si512(p); }
  static Vec multiply_add(Vec sum, Lanes a, Lanes b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  static void pack(const Vec (&values)[kPack], Operand* operands) {
    const __m512bh pairs = _mm512_cvtne2ps_pbh(values[1], values[0]);
    _mm512_storeu_si512(operands, reinterpret_cast<__m512i>(pairs));
  }
  // Zeros in place of the first or second of every pair.
  static Lanes keep(Lanes x, bool first, bool second) {
    const uint32_t mask = (first ? 0xffffu : 0u) | (second ? 0xffff0000u : 0u);
    return _mm512_and_si512(x, _mm512_set1_epi32(static_cast<int>(mask)));
  }
};
#else
// Pairs of bfloat16, multiplied as floats one after the other.
struct Bfloats {
  using Element = peregrine::Bfloat;
  struct Operand {
    float first, second;
  };
  struct Lanes {
    Vec first, second;
  };
  static constexpr int kPack = 2;

  static Lanes broadcast(const Operand* p) { return {splat(p->first), splat(p->second)}; }
  static Lanes load_units(const Element* p) {
    Lanes x;
    load_pairs(p, &x.first, &x.second);
    return x;
  }
  static Vec multiply_add(Vec sum, const Lanes& a, const Lanes& b) {
    return fma(a.second, b.second, fma(a.first, b.first, sum));
  }
  static void pack(const Vec (&values)[kPack], Operand* operands) {
    auto* floats = reinterpret_cast<float*>(operands);
    store(floats, round_bfloat(values[0]));
    store(floats + kLanes, round_bfloat(values[1]));
  }
  static Lanes keep(const Lanes& x, bool first, bool second) {
    return {first ? x.first : splat(0.0f), second ? x.second : splat(0.0f)};
  }
};
#endif

}  // namespace
