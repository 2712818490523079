// The 16-bit element of activations and caches, and arithmetic on it.
//
// Macros: ELEMENT_BF16 (1 bfloat16, 0 float16). CUDA_HOST: compiled for the CPU, by a host that declares `cuda_host::`.
#pragma once

typedef unsigned short Element;

__device__ __forceinline__ float to_float(Element x) {
#ifdef CUDA_HOST
    return ELEMENT_BF16 ? cuda_host::bfloat16_to_float(x) : cuda_host::half_to_float(x);
#elif ELEMENT_BF16
    return __uint_as_float(static_cast<unsigned>(x) << 16);
#else
    float out;
    asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(x));
    return out;
#endif
}

// Two elements of a register, `low` at the lower address; rounded to nearest even.
__device__ __forceinline__ unsigned pack(float low, float high) {
#ifdef CUDA_HOST
    return ELEMENT_BF16 ? cuda_host::float_to_bfloat16(low) | cuda_host::float_to_bfloat16(high) << 16
                        : cuda_host::float_to_half(low) | cuda_host::float_to_half(high) << 16;
#else
    unsigned out;
#if ELEMENT_BF16
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
#else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
#endif
    return out;
#endif
}

__device__ __forceinline__ Element to_element(float x) { return static_cast<Element>(pack(x, 0.0f) & 0xffffu); }

__device__ __forceinline__ float2 unpack(unsigned pair) {
    return make_float2(to_float(static_cast<Element>(pair & 0xffffu)), to_float(static_cast<Element>(pair >> 16)));
}

__device__ __forceinline__ float fast_exp2(float x) {
#ifdef CUDA_HOST
    return exp2f(x);
#else
    float out;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
    return out;
#endif
}

__device__ __forceinline__ float minus_infinity() { return __int_as_float(static_cast<int>(0xff800000u)); }

__device__ __forceinline__ float fast_tanh(float x) {
    // NOTE: exp(2x) overflows to infinity, and 2 / infinity is the 0 that is wanted.
    return 1.0f - 2.0f / (1.0f + fast_exp2(x * 2.885390081777927f));
}
