// A row of logits as a distribution over the vocabulary.
//
// Probabilities are held as integers: a token's mass is exp(z - max z) in units of 2^-42, rounded. A sum over 2^21
// tokens cannot overflow, a cumulative sum is exact in whatever order it is made, and what weighs less than half a
// unit cannot be drawn (it would be, once in 10^13 draws).
#pragma once

#include "block.cuh"

constexpr float kMassUnits = 0x1p42f;
// Tokens farther below the best than this have no mass.
constexpr float kReach = 29.81f;
constexpr float kLargestFloat = 3.402823466e38f;

// Integers in the order of the floats; the two zeros are one.
__device__ inline u32 ordered(float value) {
    const u32 bits = __float_as_uint(value == 0.0f ? 0.0f : value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline float from_ordered(u32 key) {
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

__device__ inline u64 mass_of(float z, float best) {
    return static_cast<u64>(expf(z - best) * kMassUnits + 0.5f);
}

struct Extremes {
    float best, lowest;
    int token;    // the best one's; of equals the lowest id
    bool finite;  // the best is a number, and none is NaN
};

// Divides the row by `temperature`, in place, and finds its extremes.
__device__ inline Extremes temper(float* z, int vocab, float temperature) {
    u64 top = 0;
    u32 bottom = 0xffffffffu;
    int broken = 0;
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        float value = z[i];
        if (temperature != 1.0f) z[i] = value = value / temperature;
        const u32 key = ordered(value);
        top = Max()(top, static_cast<u64>(key) << 32 | ~static_cast<u32>(i));
        bottom = Min()(bottom, key);
        broken |= value != value;
    }
    top = block_reduce(top, Max());
    bottom = block_reduce(bottom, Min());
    broken = __syncthreads_or(broken);
    const float best = from_ordered(static_cast<u32>(top >> 32));
    const bool finite = !broken && fabsf(best) <= kLargestFloat;
    return {best, from_ordered(bottom), static_cast<int>(~static_cast<u32>(top)), finite};
}

__device__ inline u64 total_mass(const float* z, int vocab, float best) {
    u64 sum = 0;
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) sum += mass_of(z[i], best);
    return block_reduce(sum, Sum());
}

// Natural logarithm of the probability of a token with logit `z`.
__device__ inline float log_probability(float z, float best, u64 total) {
    return static_cast<float>(static_cast<double>(z) - best - log(static_cast<double>(total) / kMassUnits));
}
