// Philox4x32-10 of Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC'11).
#pragma once

#include "block.cuh"

// One number in [0, 1) with 53 random bits for each seed, sample of the request and position of the output token.
__device__ inline double uniform(u64 seed, u32 sample, u32 position) {
    u32 counter[4] = {position, sample, 0, 0};
    u32 key[2] = {static_cast<u32>(seed), static_cast<u32>(seed >> 32)};
    for (int round = 0; round < 10; ++round) {
        const u64 even = 0xD2511F53ull * counter[0], odd = 0xCD9E8D57ull * counter[2];
        counter[0] = static_cast<u32>(odd >> 32) ^ counter[1] ^ key[0];
        counter[1] = static_cast<u32>(odd);
        counter[2] = static_cast<u32>(even >> 32) ^ counter[3] ^ key[1];
        counter[3] = static_cast<u32>(even);
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    const u64 bits = static_cast<u64>(counter[0]) << 21 | counter[1] >> 11;
    return static_cast<double>(bits) * 0x1p-53;
}
