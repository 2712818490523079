// exp2, exp and tanh on vectors. Every lane is computed alone: a value does not depend on its neighbours.
#pragma once

namespace {

constexpr float kLog2E = 1.44269504088896341f;

// 2^f for |f| <= 0.5: the Taylor series of exp(f ln 2), relative error below 1e-8 before rounding.
inline Vec exp2_fraction(Vec f) {
  Vec p = splat(1.5252733804059841e-5f);
  p = fma(p, f, splat(1.5403530393381608e-4f));
  p = fma(p, f, splat(1.3333558146428443e-3f));
  p = fma(p, f, splat(9.6181291076284772e-3f));
  p = fma(p, f, splat(5.5504108664821580e-2f));
  p = fma(p, f, splat(2.4022650695910071e-1f));
  p = fma(p, f, splat(6.9314718055994531e-1f));
  return fma(p, f, splat(1.0f));
}

// Exactly 1 at 0, 0 from -126.5 down (and at -inf), infinity from 128 up.
inline Vec exp2_of(Vec x) {
  x = min(splat(128.0f), max(splat(-127.0f), x));
  const Vec n = round_even(x);
  return scale_exponent(exp2_fraction(sub(x, n)), n);
}

inline float exp2_of(float x) { return first_lane(exp2_of(splat(x))); }

// 2^x for x <= 0, for weights: relative error below 2e-7; exactly 1 at 0, and 0 from -127 down. The fraction's
// polynomial is the minimax one of degree 5 with p(0) = 1.
inline Vec exp2_weight(Vec x) {
  x = max(splat(-127.0f), x);
  // NOTE: the low bits of the sum are the rounded x + 127, a biased exponent.
  const Vec rounder = splat(0x1.8p23f + 127.0f);
  const Vec biased = add(x, rounder);
  const Vec f = sub(x, sub(biased, rounder));
  Vec p = splat(1.326472731307149e-3f);
  p = fma(p, f, splat(9.671512991189957e-3f));
  p = fma(p, f, splat(5.550733581185341e-2f));
  p = fma(p, f, splat(2.4022242426872253e-1f));
  p = fma(p, f, splat(6.931470036506653e-1f));
  p = fma(p, f, splat(1.0f));
  return mul(p, shift_to_exponent(biased));
}

inline float exp2_weight(float x) { return first_lane(exp2_weight(splat(x))); }

// The product with log2(e) is split in two, so that large arguments lose nothing.
inline Vec exp_of(Vec x) {
  x = min(splat(88.8f), max(splat(-88.0f), x));
  const Vec n = round_even(mul(x, splat(kLog2E)));
  Vec r = fma(n, splat(-0.693359375f), x);
  r = fma(n, splat(2.12194440e-4f), r);
  return scale_exponent(exp2_fraction(mul(r, splat(kLog2E))), n);
}

// Cephes tanhf: a polynomial near 0, where 1 - 2 / (exp(2x) + 1) would cancel.
inline Vec tanh_of(Vec x) {
  const Vec square = mul(x, x);
  Vec p = splat(-5.70498872745e-3f);
  p = fma(p, square, splat(2.06390887954e-2f));
  p = fma(p, square, splat(-5.37397155531e-2f));
  p = fma(p, square, splat(1.33314422036e-1f));
  p = fma(p, square, splat(-3.33332819422e-1f));
  const Vec near = fma(mul(p, square), x, x);
  const Vec one = splat(1.0f);
  const Vec far = sub(one, div(splat(2.0f), add(exp_of(mul(splat(2.0f), abs(x))), one)));
  const Vec signed_far = select(less(x, splat(0.0f)), sub(splat(0.0f), far), far);
  return select(less(abs(x), splat(0.625f)), near, signed_far);
}

}  // namespace
