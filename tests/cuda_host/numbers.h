// The 16-bit float types, vector types and arithmetic intrinsics of CUDA C++.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

template <class To, class From>
inline To cuda_host_bits(From value) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To out;
    std::memcpy(&out, &value, sizeof out);
    return out;
}
inline unsigned __float_as_uint(float x) { return cuda_host_bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return cuda_host_bits<float>(x); }
inline int __float_as_int(float x) { return cuda_host_bits<int>(x); }
inline float __int_as_float(int x) { return cuda_host_bits<float>(x); }
inline long long __double_as_longlong(double x) { return cuda_host_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return cuda_host_bits<double>(x); }

namespace cuda_host {

inline float half_to_float(uint16_t bits) {
    const uint32_t sign = (bits & 0x8000u) << 16;
    const uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
    if (exponent) return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
    const float tiny = std::ldexp(static_cast<float>(fraction), -24);
    return sign ? -tiny : tiny;
}

// Round to nearest, ties to even.
inline uint16_t float_to_half(float value) {
    const uint32_t bits = __float_as_uint(value);
    const uint16_t sign = bits >> 16 & 0x8000;
    const float magnitude = std::fabs(value);
    if (value != value) return 0x7fff;
    if (magnitude >= 65520.0f) return sign | 0x7c00;
    if (magnitude < 6.103515625e-5f) return sign | static_cast<uint16_t>(std::nearbyint(std::ldexp(magnitude, 24)));
    uint32_t rest = (bits & 0x7fffffffu) - (112u << 23);
    rest += 0xfff + (rest >> 13 & 1);
    return sign | static_cast<uint16_t>(rest >> 13);
}

inline float bfloat16_to_float(uint16_t bits) { return __uint_as_float(static_cast<uint32_t>(bits) << 16); }

inline uint16_t float_to_bfloat16(float value) {
    if (value != value) return 0x7fff;
    uint32_t bits = __float_as_uint(value);
    bits += 0x7fff + (bits >> 16 & 1);
    return static_cast<uint16_t>(bits >> 16);
}

}  // namespace cuda_host

struct __half {
    uint16_t bits;
    __half() = default;
    __half(float value) : bits(cuda_host::float_to_half(value)) {}
    operator float() const { return cuda_host::half_to_float(bits); }
};
struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float value) : bits(cuda_host::float_to_bfloat16(value)) {}
    operator float() const { return cuda_host::bfloat16_to_float(bits); }
};
using half = __half;
using nv_bfloat16 = __nv_bfloat16;
inline float __half2float(__half x) { return x; }
inline __half __float2half(float x) { return x; }
inline __half __float2half_rn(float x) { return x; }
inline float __bfloat162float(__nv_bfloat16 x) { return x; }
inline __nv_bfloat16 __float2bfloat16(float x) { return x; }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return x; }
inline __half __ushort_as_half(unsigned short x) { return cuda_host_bits<__half>(x); }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }

#define CUDA_HOST_VECTOR(T, name)                                           \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };                      \
    struct name##3 { T x, y, z; };                                          \
    struct alignas(4 * sizeof(T)) name##4 { T x, y, z, w; };                \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }              \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }      \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CUDA_HOST_VECTOR(float, float)
CUDA_HOST_VECTOR(int, int)
CUDA_HOST_VECTOR(unsigned short, ushort)
#undef CUDA_HOST_VECTOR
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

#define CUDA_HOST_MIN_MAX(T)                                  \
    inline T min(T a, T b) { return b < a ? b : a; }          \
    inline T max(T a, T b) { return a < b ? b : a; }
CUDA_HOST_MIN_MAX(int)
CUDA_HOST_MIN_MAX(unsigned)
CUDA_HOST_MIN_MAX(long)
CUDA_HOST_MIN_MAX(unsigned long)
CUDA_HOST_MIN_MAX(long long)
CUDA_HOST_MIN_MAX(unsigned long long)
#undef CUDA_HOST_MIN_MAX
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }

inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __fma_rn(double x, double y, double z) { return std::fma(x, y, z); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<uint64_t>(a) * b >> 32; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned __int128>(a) * b >> 64;
}
inline unsigned __brev(unsigned x) {
    unsigned out = 0;
    for (int i = 0; i < 32; ++i) out |= (x >> i & 1u) << (31 - i);
    return out;
}
